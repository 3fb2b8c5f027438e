"""TailSFT: which sequences are dropped, and what an attached model then trains on, against sums written out."""

import copy

import pytest
import torch
import torch.nn.functional as F

from tailkeep.errors import AttachmentError, ConfigError
from tailkeep.losses import (
    attach,
    drop_fitted_sequences,
    initial_sequence_nll,
    kept_sequences,
    linear_truncated_cross_entropy,
    linear_weighted_cross_entropy,
    load_loss_state,
    read_stats,
    save_loss_state,
    sequence_nll,
    tail_sft,
    weighted_cross_entropy,
    weighting_of,
)
from tailkeep.losses.sequences import check_not_packed
from tests.losses.engines import truth
from tests.losses.hf.families import tiny
from tests.losses.hf.unfused import Trained, batch, fused, gradients, same

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def test_the_sequences_that_fell_furthest_are_dropped():
    margins = torch.tensor([-1.0, 0.2, -3.0, -0.5, -2.0])
    for fraction, dropped in ((0.0, []), (0.2, [2]), (0.5, [2, 4]), (0.6, [0, 2, 4]), (0.99, [0, 2, 3, 4])):
        assert (~kept_sequences(margins, fraction=fraction)).nonzero().flatten().tolist() == dropped


def test_the_share_is_rounded_as_in_the_paper_and_one_sequence_stays():
    for number in range(1, 12):
        for fraction in (0.0, 0.1, 0.25, 0.5, 0.75, 0.9):
            kept = kept_sequences(torch.randn(number), fraction=fraction)
            assert int((~kept).sum()) == min(round(number * fraction), number - 1)


def test_of_equal_margins_the_first_are_dropped():
    assert kept_sequences(torch.zeros(4), fraction=0.5).tolist() == [False, False, True, True]


def test_a_sequence_without_a_target_is_not_counted():
    margins = torch.tensor([torch.nan, -1.0, torch.nan, -2.0])
    assert kept_sequences(margins, fraction=0.5).tolist() == [True, True, True, False]
    assert kept_sequences(torch.full((3,), torch.nan), fraction=0.5).all()
    assert kept_sequences(torch.empty(0), fraction=0.5).shape == (0,)


def test_longer_sequences_are_judged_by_their_mean():
    nll = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 9.0, 9.0, 9.0]])
    targets = torch.tensor([[1, 1, 1, 1], [1, -100, -100, -100]])
    assert sequence_nll(nll, targets).tolist() == [1.0, 2.0]
    kept = drop_fitted_sequences(nll, targets, torch.tensor([1.5, 4.0]), fraction=0.5)
    assert kept.tolist() == [[1, 1, 1, 1], [-100] * 4]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6])
def test_the_loss_is_the_token_mean_over_the_kept_sequences(fraction):
    problem = truth.problem(1, shape=(6, 7))
    nll, initial = truth.token_nll(problem), torch.randn(6, dtype=torch.float64)
    valid = problem.targets != truth.IGNORED
    margins = (nll.detach() * valid).sum(1) / valid.sum(1) - initial
    kept = sorted(margins.argsort().tolist()[round(6 * fraction) :])
    threshold = truth.middle(problem)
    tokens = [
        nll[row, place] * (torch.exp(-nll[row, place].detach()) <= threshold)
        for row in kept
        for place in range(7)
        if valid[row, place]
    ]
    true = torch.stack(tokens).mean()
    targets = drop_fitted_sequences(nll, problem.targets, initial, fraction=fraction)
    loss = linear_truncated_cross_entropy(problem.hidden, problem.weight, targets, threshold=threshold)
    assert truth.distance(loss, true) < 1e-12
    for grad, exact in zip(truth.gradients(loss, problem), truth.gradients(true, problem), strict=True):
        assert truth.distance(grad, exact) < 1e-12


def written_out(model, inputs, initial, fraction, threshold, num_items):
    """The loss and gradients of a copy of `model`, from its logits; and the share of the targets that trained."""
    model = copy.deepcopy(model)
    logits, targets = model(inputs["input_ids"]).logits[:, :-1], inputs["labels"][:, 1:]
    nll = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    valid = targets != -100
    margins = nll.detach().sum(1) / valid.sum(1) - initial
    kept = torch.ones(len(nll), dtype=torch.bool)
    kept[margins.argsort()[: round(len(nll) * fraction)]] = False
    tokens = valid & kept[:, None] & (torch.exp(-nll.detach()) <= threshold)
    loss = (nll * tokens).sum() / (valid.sum() if num_items is None else num_items)
    loss.backward()
    return Trained(loss.detach(), gradients(model)), tokens.sum().item() / valid.sum().item()


@pytest.mark.parametrize("threshold", [1.0, 0.02])
@pytest.mark.parametrize("num_items", [None, 70])
@pytest.mark.parametrize("tied", [False, True])
def test_an_attached_model_trains_on_the_kept_sequences(threshold, num_items, tied):
    model, inputs = tiny("llama", tie_word_embeddings=tied), batch(rows=6)
    initial = initial_sequence_nll(tiny("llama", seed=1), [inputs])
    expected, share = written_out(model, inputs, initial, 0.5, threshold, num_items)
    attach(model, tail_sft(0.5, threshold=threshold))
    same(fused(model, {**inputs, "initial_nll": initial}, num_items_in_batch=num_items), expected)
    stats = read_stats(model)
    assert stats["targets"] == (inputs["labels"][:, 1:] != -100).sum()
    assert stats["kept_fraction"] == pytest.approx(share)
    with torch.no_grad():
        plain = model.eval()(**inputs, initial_nll=initial)
    assert stats["cross_entropy"] == pytest.approx(plain.loss.item(), rel=1e-5)


def test_every_term_of_a_loss_is_that_of_the_kept_sequences():
    model, inputs = tiny("llama").double(), batch(rows=6)
    initial = initial_sequence_nll(tiny("llama", seed=1), [inputs])
    logits, targets = model(inputs["input_ids"]).logits[:, :-1], inputs["labels"][:, 1:]
    nll = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    kept = drop_fitted_sequences(nll, targets, initial, fraction=0.5)
    true = F.cross_entropy(logits.transpose(1, 2), kept, label_smoothing=0.1, reduction="sum") / (targets != -100).sum()
    attach(model, tail_sft(0.5), label_smoothing=0.1)
    assert model(**inputs, initial_nll=initial).loss.item() == pytest.approx(true.item(), rel=1e-10)


def test_the_initial_loss_is_that_of_each_sequence_and_leaves_the_model_as_it_was():
    model, inputs = tiny("llama"), batch(rows=4)
    halves = [{name: value[part] for name, value in inputs.items()} for part in (slice(3), slice(3, None))]
    means = initial_sequence_nll(model, halves)
    assert model.training
    logits = model(inputs["input_ids"]).logits[:, :-1].double()
    nll = F.cross_entropy(logits.transpose(1, 2), inputs["labels"][:, 1:], reduction="none")
    true = nll.sum(1) / (inputs["labels"][:, 1:] != -100).sum(1)
    assert truth.distance(means, true) < 1e-6
    assert initial_sequence_nll(model, []).shape == (0,)


def test_measuring_the_initial_policy_leaves_every_module_in_its_mode():
    model, inputs = tiny("llama").train(), batch()
    model.model.layers[0].eval()
    initial_sequence_nll(model, [inputs])
    assert model.training
    assert not model.model.layers[0].training


PACKED = {
    "positions": {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])},
    "a sequence of one token": {"position_ids": torch.tensor([[0, 1, 2, 3, 0, 0]])},
    "multimodal positions": {"position_ids": torch.tensor([0, 1, 2, 0, 1, 2]).expand(3, 1, 6)},
    "ends": {"cu_seq_lens_q": torch.tensor([0, 3, 6], dtype=torch.int32)},
}


def test_a_row_of_positions_for_all_rows_and_a_picture_within_a_row():
    targets = torch.arange(12).view(2, 6)
    with pytest.raises(ConfigError, match="packs several sequences"):
        check_not_packed(targets, {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])})
    with pytest.raises(ConfigError, match="packs several sequences"):
        check_not_packed(targets[:1], PACKED["multimodal positions"])
    picture = torch.tensor([[0, 1, 1, 1, 1, 3], [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3]])
    check_not_packed(targets[:1], {"position_ids": picture[:, None]})


@pytest.mark.parametrize("way", [way for way in PACKED if way != "multimodal positions"])
def test_a_row_of_several_sequences_is_refused_before_it_is_judged(way):
    ids = torch.arange(6)[None]
    inputs = {"input_ids": ids, "labels": ids, **PACKED[way]}
    model = tiny("llama")
    with pytest.raises(ConfigError, match=r"packs several sequences.*Turn off packing"):
        initial_sequence_nll(model, [inputs])
    attach(model, tail_sft(0.5))
    with pytest.raises(ConfigError, match="packs several sequences"):
        model(**inputs, initial_nll=torch.zeros(1))


@pytest.mark.parametrize("positions", [[[1, 1, 0, 1, 2, 3]], [[0, 1, 2, 3, 1, 1]], [[0, 0, 0, 1, 2, 0]]])
def test_padding_is_no_packing(positions):
    ids, first = torch.arange(6)[None], positions[0].index(0)
    labels = torch.full_like(ids, -100)
    real = slice(2, 6) if first == 2 else slice(0, 4) if positions[0][1] == 1 else slice(2, 5)
    labels[:, real] = ids[:, real]
    inputs = {"input_ids": ids, "labels": labels, "position_ids": torch.tensor(positions)}
    assert initial_sequence_nll(tiny("llama"), [inputs]).isfinite().all()


def test_a_part_that_acts_on_a_change_of_mode_is_told_of_both(monkeypatch):
    model, inputs = tiny("llama").train(), batch()
    seen = []
    part = type(model.model.norm)
    original = part.train
    monkeypatch.setattr(part, "train", lambda self, mode=True: (seen.append(mode), original(self, mode))[1])
    initial_sequence_nll(model, [inputs])
    layers = sum(isinstance(module, part) for module in model.modules())
    assert seen == [False] * layers + [True] * layers


def test_a_ramp_rises_to_its_share_and_goes_on_after_a_checkpoint(tmp_path):
    weighting = tail_sft(0.6, ramp_steps=4)
    model, inputs = attach(tiny("llama"), weighting), batch(rows=4)
    initial = torch.zeros(4)
    shares = []
    for step in range(6):
        if step == 3:
            save_loss_state(model, tmp_path)
            model = attach(tiny("llama"), tail_sft(0.6, ramp_steps=4))
            load_loss_state(model, tmp_path)
        shares.append(weighting_of(model).drop_share())
        model(**inputs, initial_nll=initial)
    assert shares == pytest.approx([0, 0.2, 0.4, 0.6, 0.6, 0.6])


def test_what_a_model_is_called_with_is_checked():
    model, inputs = attach(tiny("llama"), tail_sft(0.5)), batch()
    with pytest.raises(AttachmentError, match=r"'tail_sft' judges whole sequences.*initial_nll \(B,\)"):
        model(**inputs)
    with pytest.raises(ConfigError, match=r"initial_nll has the shape \(2,\) for 3 sequences.*pack several"):
        model(**inputs, initial_nll=torch.zeros(2))
    plain = attach(tiny("llama"))
    with pytest.raises(AttachmentError, match="initial_nll has no effect on the loss 'truncated'"):
        plain(**inputs, initial_nll=torch.zeros(3))


def test_functions_of_tokens_refuse_what_judges_sequences():
    problem = truth.problem(2)
    with pytest.raises(ConfigError, match=r"'tail_sft' judges whole sequences.*drop_fitted_sequences"):
        linear_weighted_cross_entropy(problem.hidden, problem.weight, problem.targets, tail_sft())
    with pytest.raises(ConfigError, match=r"'tail_sft' judges whole sequences"):
        weighted_cross_entropy(truth.logits_of(problem), problem.targets, tail_sft())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 1.0}, r"fraction 1.0 is not in \[0, 1\)"),
        ({"fraction": True}, "fraction True is a bool, not a number"),
        ({"ramp_steps": 0}, "ramp_steps 0 is below 1"),
        ({"ramp_steps": 2.5}, "ramp_steps 2.5 is a float, not a whole number"),
        ({"threshold": 0.0}, "threshold 0.0 is not in"),
    ],
)
def test_options_that_cannot_be_used_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        tail_sft(**options)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ConfigError, match=r"nll \(3,\) does not fit targets \(3,\). Pass \(B, T\) twice"):
        sequence_nll(torch.zeros(3), torch.zeros(3).long())
    with pytest.raises(ConfigError, match=r"margins have the shape \(2, 2\)"):
        kept_sequences(torch.zeros(2, 2), fraction=0.5)
    with pytest.raises(ConfigError, match="a batch has the keys input_ids and no labels"):
        initial_sequence_nll(tiny("llama"), [{"input_ids": torch.tensor([[3, 4]])}])
    with pytest.raises(ConfigError, match=r"a batch is a str, not a mapping. Pass a list of batches"):
        initial_sequence_nll(tiny("llama"), batch())
    with pytest.raises(ConfigError, match=r"labels is a list, not a torch.Tensor"):
        initial_sequence_nll(tiny("llama"), [{"input_ids": torch.tensor([[3, 4]]), "labels": [[3, 4]]}])
