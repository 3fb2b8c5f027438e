import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tailkeep.lab.causal_lm.data_config import Beam, Greedy, Sampling
from tailkeep.lab.causal_lm.generation import continue_prompts
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer
from tests.lab.causal_lm.tiny import SHAPE

GREEDY = Greedy(name="greedy")
PLAIN = Sampling(name="sample")

pytestmark = pytest.mark.usefixtures("generators")


def write(network, tokenizer, prompts, decoder=GREEDY, *, new_tokens=8, stop_at_eos=False, batch=64, seed=0):
    return continue_prompts(
        network,
        tokenizer,
        prompts,
        decoder=decoder,
        new_tokens=new_tokens,
        stop_at_eos=stop_at_eos,
        batch=batch,
        seed=seed,
    )


def prompts_of(tokenizer, *lengths):
    text = tokenizer.encode_without_eos("Ann saw a red cat and Ben had a little boat.")
    return [text[:length] for length in lengths]


def next_log_probs(network, ids):
    with torch.no_grad():
        return network(input_ids=torch.tensor([list(map(int, ids))])).logits[0, -1].double().log_softmax(-1).numpy()


def naive_greedy(network, tokenizer, prompt, steps, *, stop=None, suppressed_ids=()):
    """Argmax token by token, the whole text read anew each time: no cache, no batch."""
    ids = list(map(int, prompt))
    for _ in range(steps):
        scores = next_log_probs(network, ids)
        scores[list(suppressed_ids)] = -np.inf
        ids.append(int(scores.argmax()))
        if ids[-1] == stop:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_greedy_is_the_argmax_again_and_again(network, tokenizer, batch):
    prompts = prompts_of(tokenizer, 1, 9, 3, 3, 1, 5)
    continuations = write(network, tokenizer, prompts, batch=batch)
    for prompt, row in zip(prompts, continuations, strict=True):
        assert row.dtype == np.int32
        assert row.tolist() == naive_greedy(network, tokenizer, prompt, 8, suppressed_ids=tokenizer.suppressed_ids)


def test_prompts_of_other_lengths_in_the_call_change_nothing(network, tokenizer):
    short, long = prompts_of(tokenizer, 2, 20)
    for decoder in (GREEDY, Greedy(name="greedy", repetition_penalty=2.0), Beam(name="beam", beams=3)):
        member_arm = write(network, tokenizer, [short], decoder)[0]
        beside = write(network, tokenizer, [long, short], decoder)[1]
        assert member_arm.tolist() == beside.tolist()


@pytest.mark.parametrize("decoder", [GREEDY, PLAIN, Beam(name="beam", beams=2)])
def test_without_stopping_every_continuation_has_the_exact_length(network, tokenizer, decoder):
    with torch.no_grad():  # the stop token is by far the likeliest
        network.lm_head.weight.zero_()
        network.lm_head.weight[tokenizer.stop] = 1e-3
    continuations = write(network, tokenizer, prompts_of(tokenizer, 1, 4, 4), decoder, new_tokens=7)
    assert [len(row) for row in continuations] == [7, 7, 7]


def test_a_continuation_ends_with_its_first_stop_token(network, tokenizer):
    prompts = prompts_of(tokenizer, 1, 8) * 30
    continuations = write(network, tokenizer, prompts, PLAIN, new_tokens=40, stop_at_eos=True, seed=2)
    ended = [row for row in continuations if len(row) < 40]
    assert len(ended) > 3
    for row in ended:
        assert row[-1] == tokenizer.stop
        assert tokenizer.stop not in row[:-1]


def test_greedy_stops_where_the_argmax_is_the_stop_token(network, tokenizer):
    prompt = prompts_of(tokenizer, 3)[0]
    fourth = naive_greedy(network, tokenizer, prompt, 4, suppressed_ids=tokenizer.suppressed_ids)[3]
    names = {"bos_token_id": tokenizer.start, "eos_token_id": fourth, "pad_token_id": 0}
    special = {"all_special_ids": tokenizer.hf_tokenizer.all_special_ids, "__len__": lambda _: tokenizer.size}
    special["__call__"] = lambda _, text, **options: tokenizer.hf_tokenizer(text, **options)
    hf_tokenizer = type("Tokenizer", (), names | special)()
    shifted = DocumentTokenizer(hf_tokenizer, append_eos=True)
    expected = naive_greedy(network, shifted, prompt, 8, stop=fourth, suppressed_ids=shifted.suppressed_ids)
    assert write(network, shifted, [prompt], stop_at_eos=True)[0].tolist() == expected
    assert len(expected) <= 4


def test_special_tokens_inside_a_document_are_never_written(network, tokenizer):
    with torch.no_grad():
        network.lm_head.weight[tokenizer.pad] = network.lm_head.weight.abs().sum(0) * 10
    for decoder in (GREEDY, PLAIN, Beam(name="beam", beams=2)):
        continuations = np.concatenate(
            write(network, tokenizer, prompts_of(tokenizer, 1, 2, 3), decoder, new_tokens=12)
        )
        assert tokenizer.pad not in continuations


def first_tokens(network, tokenizer, decoder, draws=300):
    prompt = prompts_of(tokenizer, 4)[0]
    continuations = write(network, tokenizer, [prompt] * draws, decoder, new_tokens=1, seed=3)
    scores = next_log_probs(network, prompt)
    scores[tokenizer.suppressed_ids] = -np.inf
    p = np.exp(scores)
    return np.concatenate(continuations), p / p.sum()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_draws_from_the_k_likeliest(network, tokenizer, k):
    tokens, p = first_tokens(network, tokenizer, Sampling(name="sample", top_k=k))
    assert set(tokens.tolist()) <= set(np.argsort(-p)[:k].tolist())
    assert len(set(tokens.tolist())) == k


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.7])
def test_top_p_draws_from_the_smallest_set_that_holds_the_share(network, tokenizer, top_p):
    tokens, p = first_tokens(network, tokenizer, Sampling(name="sample", top_p=top_p))
    order = np.argsort(-p)
    needed = int((np.cumsum(p[order]) < top_p).sum()) + 1
    assert set(tokens.tolist()) <= set(order[:needed].tolist())


def test_min_p_cuts_relative_to_the_likeliest(network, tokenizer):
    tokens, p = first_tokens(network, tokenizer, Sampling(name="sample", min_p=0.4))
    assert (p[tokens] >= 0.4 * p.max() * (1 - 1e-4)).all()
    assert len(set(tokens.tolist())) == (p >= 0.4 * p.max()).sum()


def test_plain_sampling_reaches_beyond_any_usual_cut(network, tokenizer):
    with torch.no_grad():
        network.lm_head.weight.zero_()
    tokens, p = first_tokens(network, tokenizer, PLAIN, draws=600)
    assert len(set(tokens.tolist())) > 100  # transformers' own default would cut at 50
    assert p[tokenizer.pad] == 0


def test_a_low_temperature_is_greedy_and_a_high_one_is_not(network, tokenizer):
    prompts = prompts_of(tokenizer, 2, 4, 6)
    cold = write(network, tokenizer, prompts, Sampling(name="sample", temperature=1e-6))
    assert [row.tolist() for row in cold] == [row.tolist() for row in write(network, tokenizer, prompts)]
    hot, p = first_tokens(network, tokenizer, Sampling(name="sample", temperature=5.0))
    usual, _ = first_tokens(network, tokenizer, PLAIN)
    assert p[hot].mean() < p[usual].mean()


def test_a_penalty_on_repetition_moves_greedy_away_from_what_stands_there(network, tokenizer):
    prompt = np.full(6, tokenizer.encode_without_eos("cat")[-1], np.int32)
    with torch.no_grad():  # the likeliest token is the one that stands there already
        network.lm_head.weight.zero_()
        hidden = network.model(torch.tensor(prompt[None].astype(np.int64))).last_hidden_state[0, -1]
        network.lm_head.weight[prompt[0]] = hidden / hidden.norm() ** 2 * 2.0
        network.lm_head.weight[prompt[0] - 1] = hidden / hidden.norm() ** 2 * 1.5
    assert write(network, tokenizer, [prompt], new_tokens=1)[0].tolist() == [prompt[0]]
    penalised = write(network, tokenizer, [prompt], Greedy(name="greedy", repetition_penalty=2.0), new_tokens=1)
    assert penalised[0].tolist() == [prompt[0] - 1]


def test_beam_search_finds_a_text_at_least_as_likely_as_greedy(network, tokenizer):
    def log_prob(prompt, row):
        ids = [*map(int, prompt)]
        total = 0.0
        for token in row.tolist():
            scores = next_log_probs(network, ids)
            total += scores[token]
            ids.append(token)
        return total

    better = 0
    for prompt in prompts_of(tokenizer, 1, 3, 5, 7):
        greedy = log_prob(prompt, write(network, tokenizer, [prompt], new_tokens=4)[0])
        beam = log_prob(prompt, write(network, tokenizer, [prompt], Beam(name="beam", beams=8), new_tokens=4)[0])
        assert beam >= greedy - 1e-4
        better += beam > greedy + 1e-4
    assert better


def test_one_seed_gives_one_text_and_another_seed_another(network, tokenizer):
    prompts = prompts_of(tokenizer, 1, 2, 3)
    one, again, other = (write(network, tokenizer, prompts, PLAIN, seed=seed) for seed in (5, 5, 6))
    assert [row.tolist() for row in one] == [row.tolist() for row in again]
    assert [row.tolist() for row in one] != [row.tolist() for row in other]


def test_greedy_and_beam_do_not_look_at_the_seed(network, tokenizer):
    prompts = prompts_of(tokenizer, 1, 2)
    for decoder in (GREEDY, Beam(name="beam", beams=2)):
        one, other = (write(network, tokenizer, prompts, decoder, seed=seed) for seed in (0, 1))
        assert [row.tolist() for row in one] == [row.tolist() for row in other]


def test_what_the_model_recommends_changes_nothing_and_stays_with_it(network, tokenizer):
    prompts = prompts_of(tokenizer, 1, 3, 5)
    plain = [row.tolist() for row in write(network, tokenizer, prompts, PLAIN, new_tokens=12)]
    advice = GenerationConfig(
        do_sample=True, top_k=1, top_p=0.1, min_p=0.9, temperature=0.2, repetition_penalty=3.0,
        eos_token_id=plain[0][0], max_length=4, min_length=2, suppress_tokens=plain[1][:3],
    )  # fmt: skip
    network.generation_config = advice
    assert [row.tolist() for row in write(network, tokenizer, prompts, PLAIN, new_tokens=12)] == plain
    assert network.generation_config is advice


@pytest.mark.parametrize("training", [True, False])
def test_every_part_of_the_network_keeps_its_mode_even_if_it_fails(network, tokenizer, training):
    network.train(training)
    network.lm_head.train(not training)
    modes = [module.training for module in network.modules()]
    write(network, tokenizer, prompts_of(tokenizer, 2), new_tokens=1)
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(IndexError):
        write(network, tokenizer, [np.array([10_000], np.int32)], new_tokens=1)
    assert [module.training for module in network.modules()] == modes


def test_no_prompts_give_no_continuations(network, tokenizer):
    assert write(network, tokenizer, []) == []


def test_ids_beyond_the_tokenizer_are_never_drawn(tokenizer):
    """Many models pad their embedding to a round size; the padding has no text."""
    config = LlamaConfig(
        **SHAPE, vocab_size=tokenizer.size + 64, eos_token_id=tokenizer.stop, pad_token_id=tokenizer.pad
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        padded = LlamaForCausalLM(config)
    with torch.no_grad():
        padded.lm_head.weight[tokenizer.size :] = padded.lm_head.weight[: tokenizer.size].mean(0) * 50
    for decoder in (GREEDY, Sampling(name="sample")):
        continuations = write(padded, tokenizer, prompts_of(tokenizer, 2, 3), decoder, new_tokens=12)
        assert np.concatenate(continuations).max() < tokenizer.size
