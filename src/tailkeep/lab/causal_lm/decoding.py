"""Batched generation with a KV cache: a decoder's settings, prompts in, continuations out.

Rule: batches depend on the prompts and the settings alone, the random state is the caller's seed, and what a model
folder recommends (its generation_config.json) changes nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from tailkeep.lab.causal_lm.codec import Codec, Ids
from tailkeep.lab.causal_lm.decoders import Beam, FixedDecoder, Greedy, Sampling


def continue_prompts(
    network: Any,
    codec: Codec,
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
    decoder: FixedDecoder, codec: Codec, new_tokens: int, stop: int | None, silent: list[int]
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
