"""Batched generation with a KV cache: a decoder's config and prompts in, continuations or rewritten documents out.

Rules: batches depend on prompts and config alone, the random state is the caller's seed, and a model folder's
generation_config.json has no effect. To rephrase, one document goes in and one comes out; a chat model is asked in its
own template, any other model reads the document and then the instruction.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from tailkeep.config import describe
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import AnyForm, DocumentPrompts, Generation, MatchedTemperature
from tailkeep.lab.causal_lm.data_config import Beam, CodeDecoder, FixedDecoder, Greedy, Sampling
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData
from tailkeep.lab.causal_lm.written_texts import begin_call
from tailkeep.losses.sequences import evaluation_mode
from tailkeep.runs import track_loop
from tailkeep.scoring import token_log_probs


def continue_prompts(
    network: Any,
    tokenizer: DocumentTokenizer,
    prompts: Sequence[Ids],
    *,
    decoder: FixedDecoder,
    new_tokens: int,
    stop_at_eos: bool,
    batch: int,
    seed: int,
) -> list[Ids]:
    """The model's continuation of each prompt.

    Args:
        network: a Hugging Face causal language model; it is left in the mode it was in.
        prompts: token ids, at least one each.
        new_tokens: the most tokens to generate, or the exact number if not `stop_at_eos`.
        stop_at_eos: whether a continuation ends at the document's stop token (which it then includes).
        batch: the most prompts in one call.
        seed: of random sampling; greedy and beam ignore it.

    Returns:
        The continuations, without their prompts, in the order of `prompts`.
    """
    stop = tokenizer.stop if stop_at_eos else None
    vocabulary = network.config.get_text_config().vocab_size
    # Ids beyond the tokenizer are padding of the embedding: they have no text.
    suppressed = [*tokenizer.suppressed_ids, *range(tokenizer.size, vocabulary)]
    config = _generation_config(decoder, tokenizer, new_tokens, stop, suppressed)
    processors = LogitsProcessorList(
        [_LogitShaper(decoder.bind("decoder"), decoder.origin())] if isinstance(decoder, CodeDecoder) else []
    )
    device = next(network.parameters()).device
    continuations: list[Ids] = [np.zeros(0, np.int32)] * len(prompts)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(), _without_default_config(network):
        torch.manual_seed(seed)
        batches = list(_batches([len(prompt) for prompt in prompts], batch))
        arguments = (decoder, new_tokens, stop_at_eos, batch, seed)
        call = begin_call(prompts, arguments, device)
        earlier = call.restore()
        loop = track_loop(len(prompts), "texts", resumed=sum(map(len, earlier)))
        if loop.is_estimate:
            batches.sort(key=len, reverse=True)
        for number, indices in enumerate(batches):
            if loop.enough:
                made_up = max(continuations, key=len)
                continuations = [ids if len(ids) else made_up for ids in continuations]
                break
            if number < len(earlier):
                rows = earlier[number]
            else:
                ids = torch.from_numpy(np.stack([prompts[i] for i in indices]).astype(np.int64)).to(device)
                mask = torch.ones_like(ids)
                out = network.generate(
                    input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=processors
                )[:, ids.shape[1] :]
                rows = [_up_to(row, stop) for row in out.cpu().numpy().astype(np.int32)]
                call.add(number, rows)
                loop.advance(len(indices), amount=sum(map(len, rows)))
            for i, row in zip(indices, rows, strict=True):
                continuations[i] = row
    return continuations


class _LogitShaper(LogitsProcessor):
    """A decoder of the user's own, as transformers calls it."""

    def __init__(self, shape: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], code: str) -> None:
        self.shape, self.code = shape, code

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logits = self.shape(scores, input_ids)
        if not isinstance(logits, torch.Tensor) or logits.shape != scores.shape:
            raise ConfigError(f"decoder: {self.code} returned {describe(logits)}. Return logits {tuple(scores.shape)}.")
        if logits.isnan().any() or not logits.isfinite().any(dim=-1).all():
            raise ConfigError(
                f"decoder: {self.code} returned logits that are NaN, or none of them finite. -inf excludes a token; "
                "leave one at least."
            )
        return logits


@contextmanager
def _without_default_config(network: Any) -> Iterator[None]:
    """In eval mode and without the model's generation_config, from which `generate` would fill unset options."""
    default = network.generation_config
    network.generation_config = GenerationConfig()
    try:
        with evaluation_mode(network):
            yield
    finally:
        network.generation_config = default


def _batches(lengths: Sequence[int], batch: int) -> Iterator[list[int]]:
    """Indices of prompts of one length, at most `batch` a group, the shortest first.

    Nothing is padded: a repetition penalty would count the padding, and some architectures cannot mask it.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    for _, group in groupby(order, key=lambda i: lengths[i]):
        alike = list(group)
        yield from (alike[first : first + batch] for first in range(0, len(alike), batch))


def _generation_config(
    decoder: FixedDecoder, tokenizer: DocumentTokenizer, new_tokens: int, stop: int | None, suppressed_ids: list[int]
) -> GenerationConfig:
    common: dict[str, Any] = {
        "max_new_tokens": new_tokens,
        "pad_token_id": tokenizer.pad,
        "bos_token_id": tokenizer.start,
        "eos_token_id": stop,
        "suppress_tokens": suppressed_ids or None,
        "use_cache": True,
    }
    match decoder:
        case CodeDecoder():
            options: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0}
            return GenerationConfig(**common, **options)
        case Greedy():
            options = {"do_sample": False}
        case Beam():
            options = {"do_sample": False, "num_beams": decoder.beams}
        case Sampling():
            # top_k 0 switches transformers' own default of 50 off.
            options = {"do_sample": True, "temperature": decoder.temperature, "top_k": decoder.top_k or 0}
            options |= {"top_p": decoder.top_p} if decoder.top_p is not None else {}
            options |= {"min_p": decoder.min_p} if decoder.min_p is not None else {}
    if decoder.repetition_penalty != 1.0:
        options["repetition_penalty"] = decoder.repetition_penalty
    return GenerationConfig(**common, **options)


def _up_to(row: Ids, stop: int | None) -> Ids:
    """The row up to and with its first stop token; what follows is padding."""
    if stop is None:
        return row
    ends = np.flatnonzero(row == stop)
    return row[: ends[0] + 1] if len(ends) else row


def match_temperature(
    network: Any,
    tokenizer: DocumentTokenizer,
    real: TokenData,
    generation: Generation,
    matched: MatchedTemperature,
    *,
    seed: int,
) -> float:
    """The temperature T at which the mean ln p of generated text equals that of the real text in its place.

    ln p is that of the model at temperature 1, over all tokens after the same contexts: documents' first tokens or
    windows' contexts, `matched.texts` of them, sampled from `real`, the training text (never a held-out document). An
    overconfident model assigns its own text a higher p than real text and gets T > 1, an undertrained one T < 1. Every
    temperature is tried with the same `seed`, so T is a function of the arguments.
    """
    contexts, tails = sample_contexts(real, generation.form, matched.texts, seed=seed)
    target = _mean_log_prob(network, tokenizer, contexts, tails)
    stop_at_eos = isinstance(generation.form, DocumentPrompts)

    def excess(temperature: float) -> float:
        generated = continue_prompts(
            network,
            tokenizer,
            contexts,
            decoder=matched.at(temperature),
            new_tokens=generation.form.new_tokens,
            stop_at_eos=stop_at_eos,
            batch=generation.batch,
            seed=seed,
        )
        return _mean_log_prob(network, tokenizer, contexts, generated) - target

    return bisect_decreasing(excess, low=matched.low, high=matched.high, steps=matched.steps)


def bisect_decreasing(function: Callable[[float], float], *, low: float, high: float, steps: int) -> float:
    """Where a decreasing `function` of a positive number crosses 0, by `steps` halvings of ln(high / low).

    The result is off by less than the factor (high / low)^(1 / 2^(steps + 1)). For a function that does not cross
    between the bounds it is the nearer bound.
    """
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return math.sqrt(low * high)


def sample_contexts(real: TokenData, form: AnyForm, texts: int, *, seed: int) -> tuple[list[Ids], list[Ids]]:
    """`texts` contexts in `real`, and the real tokens that follow each.

    In the form `documents` whole documents are sampled, without repetition as long as there are enough; in `windows`
    random positions of the joined text.
    """
    rng = np.random.default_rng(seed)
    if isinstance(form, DocumentPrompts):
        usable = np.flatnonzero(real.lengths > 1)
        documents = [real.documents[i] for i in rng.choice(usable, size=texts, replace=texts > len(usable))]
        lengths = [min(form.prompt_tokens, len(document) - 1) for document in documents]
        return (
            [document[:length] for document, length in zip(documents, lengths, strict=True)],
            [document[length : length + form.new_tokens] for document, length in zip(documents, lengths, strict=True)],
        )
    positions = rng.integers(1, max(2, real.units - form.new_tokens + 1), size=texts)
    return (
        [real.tokenizer.begin_block(real.ids[max(0, position - form.context) : position]) for position in positions],
        [real.ids[position : position + form.new_tokens] for position in positions],
    )


def _mean_log_prob(network: Any, tokenizer: DocumentTokenizer, contexts: Sequence[Ids], tails: Sequence[Ids]) -> float:
    """Mean over all tokens of `tails`, each after its context."""
    rows = [np.concatenate([context, tail]) for context, tail in zip(contexts, tails, strict=True)]
    scored = token_log_probs(network, rows, pad=tokenizer.pad)
    log_probs = [row[len(context) - 1 :] for row, context in zip(scored, contexts, strict=True)]
    return float(np.concatenate(log_probs).astype(np.float64).mean())


def rephrase(
    network: Any,
    data: TokenData,
    *,
    instruction: str,
    max_length_ratio: float,
    decoder: FixedDecoder,
    batch: int,
    seed: int,
) -> TokenData:
    """The documents of `data` in the words of `network`, each of at most `max_length_ratio` times its tokens.

    Args:
        instruction: what the model is told to do with the document.
        decoder: how it writes; a document also ends at the tokenizer's end-of-text token, in a chat model that of a
            turn.
        batch: the most documents in one call; the result depends on it.

    Returns:
        As many documents, in the same order; one that the model leaves empty is empty.
    """
    # The end of a document is a token to write here, also where joined documents have none.
    writer = replace(data.tokenizer, append_eos=data.tokenizer.hf_tokenizer.eos_token_id is not None)
    texts = [data.tokenizer.decode(document).strip() for document in data.documents]
    prompts = [rephrase_prompt(data.tokenizer, text, instruction) for text in texts]
    order = sorted(range(len(texts)), key=lambda number: (len(data.documents[number]), number))
    outputs: list[Ids] = [np.zeros(0, np.int32)] * len(texts)
    for group in (order[first : first + batch] for first in range(0, len(order), batch)):
        longest = max(len(data.documents[number]) for number in group)
        continuations = continue_prompts(
            network,
            writer,
            [prompts[number] for number in group],
            decoder=decoder,
            new_tokens=math.ceil(max_length_ratio * longest),
            stop_at_eos=True,
            batch=batch,
            seed=int(np.random.SeedSequence([seed, group[0]]).generate_state(1)[0]),
        )
        for number, ids in zip(group, continuations, strict=True):
            outputs[number] = ids[: math.ceil(max_length_ratio * len(data.documents[number]))]
    rewritten = [data.tokenizer.encode(data.tokenizer.decode(ids).strip()) for ids in outputs]
    return TokenData.from_documents(rewritten, data.tokenizer)


def rephrase_prompt(tokenizer: DocumentTokenizer, text: str, instruction: str) -> Ids:
    """What a model reads before it writes `text` in other words."""
    if tokenizer.hf_tokenizer.chat_template:
        turn = [{"role": "user", "content": f"{instruction}\n\n{text}"}]
        rendered = tokenizer.hf_tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return np.array(tokenizer.hf_tokenizer(rendered, add_special_tokens=False)["input_ids"], dtype=np.int32)
    return tokenizer.encode_without_eos(f"{text}\n\n{instruction}\n\n")


def check_fits_rephrasing(data: TokenData, *, instruction: str, max_length_ratio: float, positions: int | None) -> None:
    """Check that the model reads every document, the instruction and what it is to write.

    Raises:
        ConfigError: a document is too long.
    """
    longest = max(data.documents, key=len, default=np.zeros(0, np.int32))
    prompt = rephrase_prompt(data.tokenizer, data.tokenizer.decode(longest), instruction)
    needed = len(prompt) + math.ceil(max_length_ratio * len(longest))
    if positions is not None and needed > positions:
        raise ConfigError(
            f"regime.name: 'rephrase' needs {needed} positions for the longest document ({len(longest)} tokens), the "
            f"model has {positions}. Split documents, see data.separator, or lower regime.max_length_ratio."
        )
