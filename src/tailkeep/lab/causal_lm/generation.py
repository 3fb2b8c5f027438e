"""Batched generation with a KV cache: a decoder's settings, prompts in, continuations out.

Rule: batches depend on the prompts and the settings alone, the random state is the caller's seed, and what a model
folder recommends (its generation_config.json) changes nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from tailkeep.lab.causal_lm.config import AnyForm, DocumentPrompts, Generation, MatchedTemperature
from tailkeep.lab.causal_lm.data_config import Beam, FixedDecoder, Greedy, Sampling
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData
from tailkeep.scoring import token_log_probs


def continue_prompts(
    network: Any,
    codec: DocumentTokenizer,
    prompts: Sequence[Ids],
    *,
    decoder: FixedDecoder,
    new_tokens: int,
    stops: bool,
    batch: int,
    seed: int,
) -> list[Ids]:
    """What the model writes after each prompt.

    Args:
        network: a Hugging Face causal language model; it is left in the mode it was in.
        prompts: token ids, at least one each.
        new_tokens: the most tokens to write, or the exact number if not `stops`.
        stops: whether a continuation ends at the document's stop token (which it then includes).
        batch: the most prompts in one call.
        seed: of the draws; greedy and beam ignore it.

    Returns:
        The continuations, without their prompts, in the order of `prompts`.
    """
    stop = codec.stop if stops else None
    vocabulary = network.config.get_text_config().vocab_size
    # Ids beyond the tokenizer are padding of the embedding: they have no text.
    silent = [*codec.silent, *range(codec.size, vocabulary)]
    config = _generation_config(decoder, codec, new_tokens, stop, silent)
    device = next(network.parameters()).device
    written: list[Ids] = [np.zeros(0, np.int32)] * len(prompts)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(), _unadvised(network):
        torch.manual_seed(seed)
        for chosen in _batches([len(prompt) for prompt in prompts], batch):
            ids = torch.from_numpy(np.stack([prompts[i] for i in chosen]).astype(np.int64)).to(device)
            mask = torch.ones_like(ids)
            out = network.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, ids.shape[1] :]
            for i, row in zip(chosen, out.cpu().numpy().astype(np.int32), strict=True):
                written[i] = _until(row, stop)
    return written


@contextmanager
def _unadvised(network: Any) -> Iterator[None]:
    """In eval mode and without the model's own generation settings: `generate` would fill ours up from them."""
    training, advice = network.training, network.generation_config
    network.generation_config = GenerationConfig()
    network.eval()
    try:
        yield
    finally:
        network.generation_config = advice
        network.train(training)


def _batches(lengths: Sequence[int], batch: int) -> Iterator[list[int]]:
    """Indices of prompts of one length, at most `batch` a group, the shortest first.

    Nothing is padded: a repetition penalty would count the padding, and some architectures cannot mask it.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    for _, group in groupby(order, key=lambda i: lengths[i]):
        alike = list(group)
        yield from (alike[first : first + batch] for first in range(0, len(alike), batch))


def _generation_config(
    decoder: FixedDecoder, codec: DocumentTokenizer, new_tokens: int, stop: int | None, silent: list[int]
) -> GenerationConfig:
    common: dict[str, Any] = {
        "max_new_tokens": new_tokens,
        "pad_token_id": codec.pad,
        "bos_token_id": codec.start,
        "eos_token_id": stop,
        "suppress_tokens": silent or None,
        "use_cache": True,
    }
    match decoder:
        case Greedy():
            choice: dict[str, Any] = {"do_sample": False}
        case Beam():
            choice = {"do_sample": False, "num_beams": decoder.beams}
        case Sampling():
            # top_k 0 switches transformers' own default of 50 off.
            choice = {"do_sample": True, "temperature": decoder.temperature, "top_k": decoder.top_k or 0}
            choice |= {"top_p": decoder.top_p} if decoder.top_p is not None else {}
            choice |= {"min_p": decoder.min_p} if decoder.min_p is not None else {}
    if decoder.repetition_penalty != 1.0:
        choice["repetition_penalty"] = decoder.repetition_penalty
    return GenerationConfig(**common, **choice)


def _until(row: Ids, stop: int | None) -> Ids:
    """The row up to and with its first stop token; what follows is padding."""
    if stop is None:
        return row
    ends = np.flatnonzero(row == stop)
    return row[: ends[0] + 1] if len(ends) else row


# The decoder `matched`: a temperature at which a model's own text is as likely to it as real text is.
#
# Rule: what is read is a slice of the real training text, never a held-out document that a measure reads.


def match_temperature(
    network: Any,
    codec: DocumentTokenizer,
    real: TokenData,
    generation: Generation,
    matched: MatchedTemperature,
    *,
    seed: int,
) -> float:
    """The temperature T at which mean ln p of what the model writes is mean ln p of what really stands there.

    ln p is the model's own at temperature 1, taken over all tokens behind the same beginnings: documents' first tokens
    or windows' contexts, `matched.texts` of them, drawn from `real`. An overconfident model finds its own text likelier
    than real text and gets T > 1, one trained too briefly T < 1. Every temperature is tried with the same `seed`, so T
    is a function of the arguments.
    """
    contexts, tails = beginnings(real, generation.form, matched.texts, seed=seed)
    wanted = _mean_log_prob(network, codec, contexts, tails)
    stops = isinstance(generation.form, DocumentPrompts)

    def excess(temperature: float) -> float:
        written = continue_prompts(
            network,
            codec,
            contexts,
            decoder=matched.at(temperature),
            new_tokens=generation.form.new_tokens,
            stops=stops,
            batch=generation.batch,
            seed=seed,
        )
        return _mean_log_prob(network, codec, contexts, written) - wanted

    return bisect_falling(excess, low=matched.low, high=matched.high, steps=matched.steps)


def bisect_falling(function: Callable[[float], float], *, low: float, high: float, steps: int) -> float:
    """Where a falling `function` of a positive number crosses 0, by `steps` halvings of ln(high / low).

    The answer is off by less than the factor (high / low)^(1 / 2^(steps + 1)). A function that does not cross between
    the bounds gives the nearer one.
    """
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return math.sqrt(low * high)


def beginnings(real: TokenData, form: AnyForm, texts: int, *, seed: int) -> tuple[list[Ids], list[Ids]]:
    """`texts` places of `real` to write on from: what stands before each, and what really follows.

    In the form `documents` whole documents are drawn, without repetition as long as there are enough; in `windows`
    places of the joined text, as many tokens apart from each other as chance will have it.
    """
    rng = np.random.default_rng(seed)
    if isinstance(form, DocumentPrompts):
        usable = np.flatnonzero(real.lengths > 1)
        drawn = [real.documents[i] for i in rng.choice(usable, size=texts, replace=texts > len(usable))]
        cuts = [min(form.prompt_tokens, len(document) - 1) for document in drawn]
        return (
            [document[:cut] for document, cut in zip(drawn, cuts, strict=True)],
            [document[cut : cut + form.new_tokens] for document, cut in zip(drawn, cuts, strict=True)],
        )
    places = rng.integers(1, max(2, real.units - form.new_tokens + 1), size=texts)
    return (
        [real.ids[max(0, place - form.context) : place] for place in places],
        [real.ids[place : place + form.new_tokens] for place in places],
    )


def _mean_log_prob(network: Any, codec: DocumentTokenizer, contexts: Sequence[Ids], tails: Sequence[Ids]) -> float:
    """Mean over all tokens of `tails`, each behind its context."""
    rows = [np.concatenate([context, tail]) for context, tail in zip(contexts, tails, strict=True)]
    scored = token_log_probs(network, rows, pad=codec.pad)
    written = [row[len(context) - 1 :] for row, context in zip(scored, contexts, strict=True)]
    return float(np.concatenate(written).astype(np.float64).mean())
