"""Batched generation with a KV cache: a decoder's settings, prompts in, continuations out.

Rule: batches depend on the prompts and the settings alone, and the random state is the caller's seed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from tailkeep.lab.causal_lm.codec import Codec, Ids
from tailkeep.lab.causal_lm.settings import AnyDecoder, Beam, Greedy, Sampling


def continue_prompts(
    network: Any,
    codec: Codec,
    prompts: Sequence[Ids],
    *,
    decoder: AnyDecoder,
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
        batch: prompts in one call.
        seed: of the draws; greedy and beam ignore it.

    Returns:
        The continuations, without their prompts, in the order of `prompts`.
    """
    stop = codec.stop if stops else None
    config = _generation_config(decoder, codec, new_tokens, stop)
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    written: list[Ids] = [np.zeros(0, np.int32)] * len(prompts)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        torch.manual_seed(seed)
        for first in range(0, len(order), batch):
            chosen = order[first : first + batch]
            ids, mask = _left_padded([prompts[i] for i in chosen], codec.pad)
            out = network.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config)[
                :, ids.shape[1] :
            ]
            for i, row in zip(chosen, out.cpu().numpy().astype(np.int32), strict=True):
                written[i] = _until(row, stop)
    network.train(training)
    return written


def _generation_config(decoder: AnyDecoder, codec: Codec, new_tokens: int, stop: int | None) -> GenerationConfig:
    common: dict[str, Any] = {
        "max_new_tokens": new_tokens,
        "pad_token_id": codec.pad,
        "bos_token_id": codec.start,
        "eos_token_id": stop,
        "suppress_tokens": [i for i in codec.silent if i != stop] or None,
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


def _left_padded(rows: Sequence[Ids], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = torch.from_numpy(row.astype(np.int64))
        mask[place, width - len(row) :] = 1
    return ids, mask


def _until(row: Ids, stop: int | None) -> Ids:
    """The row up to and with its first stop token; what follows is padding."""
    if stop is None:
        return row
    ends = np.flatnonzero(row == stop)
    return row[: ends[0] + 1] if len(ends) else row
