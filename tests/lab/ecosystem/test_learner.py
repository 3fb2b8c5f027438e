"""The ecosystem's learner and its models: who trains on what, who writes what, and what the pool is worth."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tailkeep.errors import ConfigError, InputError, TrainingError
from tailkeep.lab.causal_lm.data_config import Greedy
from tailkeep.lab.causal_lm.tokenizer import train_tokenizer
from tailkeep.lab.causal_lm.tokens import training_rows
from tailkeep.lab.ecosystem.learner import Pool, assign_members, build, compare_members, member_seed
from tailkeep.lab.selectors import Surplexity
from tests.lab.causal_lm.tiny import write_stories
from tests.lab.ecosystem.small import load, member


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_stories(tmp_path_factory.mktemp("text"))


def built(text, **changes):
    return build(load(text, **changes), device="cpu", losses={}, shared={})


def fitted(experiment, seed=0, **options):
    return experiment.learner.fit(experiment.real, seed=seed, budget=experiment.real.units, **options)


@pytest.fixture(scope="module")
def experiment(text):
    return built(text)


@pytest.fixture(scope="module")
def pool(experiment):
    return fitted(experiment)


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.network.parameters()])


def ids_of(tokens):
    return [document.tolist() for document in tokens.documents]


def test_members_differ_in_family_and_share_one_tokenizer(pool):
    kinds = {name: model.network.config.model_type for name, model in pool.members.items()}
    assert kinds == {"large": "llama", "small": "gpt_neox"}
    assert len({model.tokenizer.size for model in pool.members.values()}) == 1


LONG = {"block": 8, "batch": 8, "epochs": 6}


def test_a_shared_budget_is_a_single_models_number_of_tokens(text):
    experiment = built(text, training=LONG)
    facts = fitted(experiment).facts
    assert facts["train_units"] == facts["large.train_units"] + facts["small.train_units"]
    assert facts["train_units"] == pytest.approx(6 * experiment.real.units, rel=0.06)
    assert facts["large.train_units"] == pytest.approx(3 * facts["small.train_units"], rel=0.1)


def test_each_member_can_have_the_budget_of_a_single_model(text):
    experiment = built(text, training=LONG, compute="each", train_on="part")
    facts = fitted(experiment).facts
    for name in ("large", "small"):
        assert facts[f"{name}.train_units"] == pytest.approx(6 * experiment.real.units, rel=0.06)


def test_epochs_over_the_training_set_are_shared_too(text):
    experiment = built(text, training={**LONG, "equal_tokens": False})
    half = experiment.real.take(np.arange(16))
    pool = experiment.learner.fit(half, seed=0, budget=10**9)
    rows = training_rows(half, block=8, joined=False)
    # As many as a single model's epochs: targets, of which a document has one fewer than tokens.
    assert pool.facts["train_units"] == pytest.approx(6 * sum(len(row) - 1 for row in rows), rel=0.06)


def test_joint_facts_are_sums_and_means_over_what_was_trained(pool):
    large, small = pool.members["large"].facts, pool.members["small"].facts
    units = large["train_units"] + small["train_units"]
    mean = (large["train_nll"] * large["train_units"] + small["train_nll"] * small["train_units"]) / units
    assert pool.facts["train_nll"] == pytest.approx(mean)
    assert pool.facts["train_flops"] == large["train_flops"] + small["train_flops"]
    weights = {name: weights_of(model).numel() for name, model in pool.members.items()}
    assert large["train_flops"] == 6 * large["train_units"] * weights["large"]


class Recorder:
    """A member's learner that keeps what it was given."""

    def __init__(self):
        self.seen = []

    def fit(self, data, **options):
        self.seen.append((data, options))
        return self


def recorded(text, **changes):
    experiment = built(text, **changes)
    learner = type(experiment.learner)(experiment.learner.arm, {"large": Recorder(), "small": Recorder()})
    learner.fit(experiment.real, seed=4, budget=1000)
    return experiment.real, [one.seen[0] for one in learner.learners.values()]


def test_each_member_reads_the_whole_pool_or_a_part_that_no_other_reads(text):
    real, seen = recorded(text)
    assert all(data is real for data, _ in seen)
    assert [options["budget"] for _, options in seen] == [750, 250]
    real, seen = recorded(text, train_on="part", compute="each")
    parts = [ids_of(data) for data, _ in seen]
    assert [len(part) for part in parts] == [24, 8]
    assert sorted(parts[0] + parts[1]) == sorted(ids_of(real))
    assert [options["budget"] for _, options in seen] == [1000, 1000]
    assert [options["seed"] for _, options in seen] == [member_seed(4, 0), member_seed(4, 1)]


def test_twins_begin_and_write_differently(text):
    pool = fitted(built(text, members=[member("one", 0.5), member("two", 0.5)]))
    one, two = pool.members.values()
    assert not torch.equal(weights_of(one), weights_of(two))
    generated = ids_of(pool.sample(12, seed=1))
    assert generated[:6] != generated[6:]


def test_an_heir_inherits_from_the_member_of_its_name(text):
    still = {"block": 8, "batch": 64, "epochs": 1, "learning_rate": 1e-12}
    experiment = built(text, training=still)
    first = fitted(experiment)
    second = fitted(experiment, seed=9, previous=first)
    for name in ("large", "small"):
        assert torch.allclose(weights_of(first.members[name]), weights_of(second.members[name]), atol=1e-6)


def test_a_part_without_text_is_told_with_its_member(text, experiment):
    learner = built(text, train_on="part").learner
    bare = experiment.real.take(np.arange(1)).with_ids(experiment.real.documents[0])
    with pytest.raises(TrainingError, match="member 'small': its part of the pool, 0 document"):
        learner.fit(bare, seed=0, budget=100)


def test_each_member_writes_its_share_of_the_pool(pool):
    generated = pool.sample(8, seed=3)
    large = pool.members["large"].sample(6, seed=member_seed(3, 0))
    small = pool.members["small"].sample(2, seed=member_seed(3, 1))
    assert ids_of(generated) == ids_of(large) + ids_of(small)


def test_a_member_without_a_place_is_not_asked(pool):
    member = pool.members["large"]
    prompts = member.draw_prompts(1, seed=0)
    assert ids_of(pool.sample(1, seed=0)) == ids_of(member.regenerate(prompts, seed=member_seed(0, 0)))


def test_a_pool_is_prompted_by_as_many_documents_as_one_model(pool, experiment):
    count = len(experiment.real)
    sampled = pool.sample(count, seed=0)
    prompts = [sampled.documents[place][:length].tolist() for place, length in enumerate(sampled.prompts)]
    real = [experiment.real.documents[place][: len(prompts[0])].tolist() for place in range(count)]
    assert sorted(prompts) == sorted(real)


@pytest.mark.parametrize(
    "form",
    [{"name": "documents", "prompt_tokens": 2, "new_tokens": 8}, {"name": "windows", "context": 6, "new_tokens": 4}],
)
def test_a_regenerated_pool_keeps_its_documents_in_order(text, form):
    experiment = built(text, generation={"form": form})
    pool = fitted(experiment)
    anew = pool.regenerate(experiment.real, seed=5)
    assert len(anew) == len(experiment.real)
    assert ids_of(anew) == ids_of(pool.regenerate(experiment.real, seed=5))
    if form["name"] == "documents":
        assert [d[:2].tolist() for d in anew.documents] == [d[:2].tolist() for d in experiment.real.documents]
    else:
        assert anew.lengths.tolist() == experiment.real.lengths.tolist()


def test_samples_are_dealt_out_and_come_back_in_their_places(pool, experiment):
    starts = [document[:3] for document in experiment.real.documents[:8]]
    greedy = Greedy(name="greedy")
    generated = pool.complete(starts, greedy, new_tokens=6, seed=0, stop_at_eos=False)
    alone = [ids_of(m.complete(starts, greedy, new_tokens=6, seed=0, stop_at_eos=False)) for m in pool.members.values()]
    assert ids_of(generated) == [alone[owner][place] for place, owner in enumerate(assign_members(8, pool.shares))]
    assert generated.prompts.tolist() == [3] * 8


def test_the_pool_reads_as_the_mean_of_its_members_probabilities(pool, experiment):
    rows = experiment.real.documents[:3]
    large, small = (model.log_probs(rows) for model in pool.members.values())
    for mixed, one, other in zip(pool.log_probs(rows), large, small, strict=True):
        np.testing.assert_allclose(np.exp(mixed), 0.75 * np.exp(one) + 0.25 * np.exp(other), rtol=1e-5)


def test_a_saved_ecosystem_writes_and_measures_as_before(pool, experiment, tmp_path):
    pool.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "small"]
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    loaded = experiment.learner.load(tmp_path)
    samples = {name: view(pool, 3) for name, view in experiment.views.items()}
    again = {name: view(loaded, 3) for name, view in experiment.views.items()}
    assert ids_of(samples["common"]) == ids_of(again["common"])
    assert loaded.facts == pool.facts
    assert experiment.measure(pool, samples) == experiment.measure(loaded, again)


def test_members_are_measured_beside_the_pool(pool, experiment):
    samples = {name: view(pool, 3) for name, view in experiment.views.items()}
    metrics = experiment.measure(pool, samples).metrics
    large, small = metrics["large.held_out_nll"], metrics["small.held_out_nll"]
    assert metrics["members"] == 2
    assert metrics["mixture_gain"] == pytest.approx(0.75 * large + 0.25 * small - metrics["held_out_nll"])
    # The logarithm is concave: a mean of probabilities is never worse than the mean of its parts.
    assert metrics["mixture_gain"] > 0


def test_members_that_agree_read_and_write_as_one_of_them_alone(pool, experiment):
    large = pool.members["large"]
    twins = Pool({"one": large, "two": large}, [0.75, 0.25])
    samples = {name: view(twins, 3) for name, view in experiment.views.items()}
    together, alone = experiment.measure(twins, samples), experiment.measure.text(large, samples)
    both = alone.metrics.keys() & together.metrics.keys()
    assert both >= {
        "held_out_nll",
        "held_out_above_90",
        "common.own_perplexity",
        "common.above_99",
        "common.distinct_4",
    }
    for key in both:
        assert together.metrics[key] == pytest.approx(alone.metrics[key], rel=1e-5, nan_ok=True), key
    assert together.tables["confidence"] == alone.tables["confidence"]
    assert together.tables["tail"] == alone.tables["tail"]


def test_twins_that_agree_gain_nothing_by_mixing(pool, experiment):
    large = pool.members["large"]
    twins = Pool({"one": large, "two": large}, [0.75, 0.25])
    samples = {name: view(twins, 3) for name, view in experiment.views.items()}
    assert experiment.measure(twins, samples).metrics["mixture_gain"] == pytest.approx(0, abs=1e-6)


def test_the_members_knowledge_is_told_as_mean_and_best():
    members = [{"held_out_nll": 1.0, "kr_accuracy": 0.5}, {"held_out_nll": 3.0, "kr_accuracy": 0.9}]
    beside = compare_members({"held_out_nll": 1.25, "kr_accuracy": 0.8}, members, [0.75, 0.25])
    assert beside == pytest.approx({"members": 2, "mixture_gain": 0.25, "member_kr_mean": 0.7, "member_kr_best": 0.9})
    assert "member_kr_mean" not in compare_members({"held_out_nll": 1.25}, members, [0.5, 0.5])


def test_a_pretrained_member_with_another_tokenizer_is_refused(text, model_folder, tmp_path):
    other = train_tokenizer(["xx yy zz qq ww"] * 9, vocab_size=300)
    AutoModelForCausalLM.from_pretrained(model_folder).save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    paths = {"one": model_folder, "two": tmp_path}
    members = [
        {"name": name, "share": 0.5, "model": {"name": "pretrained", "path": str(path)}} for name, path in paths.items()
    ]
    with pytest.raises(InputError, match="member 'two': its tokenizer is not the first member's"):
        built(text, members=members, tokenizer={})
    shared = built(text, members=members, tokenizer={"path": str(model_folder)})
    assert set(shared.learner.learners) == {"one", "two"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"members": [member("a", 0.5), member("b", 0.5, max_position_embeddings=8)]},
            "member 'b': training.block needs",
        ),
        (
            {"evaluation": {"samples": 1, "prompt_tokens": 2, "new_tokens": 8}},
            "evaluation.samples is 1, of which member",
        ),
        ({"tokenizer": {}}, "member 'large': tokenizer: a model from scratch needs one"),
    ],
)
def test_what_does_not_fit_is_told_with_its_member(text, changes, message):
    with pytest.raises(ConfigError, match=message):
        built(text, **changes)


def test_what_a_pool_has_written_is_selected_by_what_surprises_its_mixture(experiment, pool):
    generated = pool.sample(12, seed=1)
    selected = experiment.select(pool, generated, by=Surplexity(name="surplexity"), size=3, seed=0)
    scored = pool.log_probs(generated.documents)
    mean_surprisal = [
        -row[prompt_length - 1 :].mean() for row, prompt_length in zip(scored, generated.prompts, strict=True)
    ]
    expected = generated.take(np.sort(np.argsort(mean_surprisal)[-3:]))
    assert selected.ids.tolist() == expected.ids.tolist()
    assert selected.facts["candidates"] == 12
