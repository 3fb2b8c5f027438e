"""A language model of one generation: how it samples, regenerates a text and is saved, and in which number formats.

Rules: initialised, fine-tuned with adapters or extrapolated, a network is an ordinary transformers model of one shape.
`dtype: auto` follows from processor and model, never from a timing. bfloat16 means autocast over float32 weights; on a
CPU it pays where products in bfloat16 are native (AVX512-BF16, AMX) and the model is large enough for them to be its
cost; decoding one token at a time is faster in float32 there.
"""

import difflib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import (
    AnyDecoder,
    DocumentPrompts,
    DTypes,
    Generation,
    LowRank,
    MatchedTemperature,
    Scratch,
    WindowPrompts,
)
from tailkeep.lab.causal_lm.data_config import FixedDecoder
from tailkeep.lab.causal_lm.editing import edit_tokens
from tailkeep.lab.causal_lm.generation import continue_prompts, rephrase
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData
from tailkeep.optional import require
from tailkeep.rules import Rule, Sampler
from tailkeep.scoring import token_log_probs
from tailkeep.scoring.loading import LOAD_ERRORS, has_native_bfloat16, quiet_transformers, reason_of

Phase = Literal["train", "score", "decode"]
PHASES: tuple[Phase, ...] = ("train", "score", "decode")
MIN_CPU_PARAMETERS = 10_000_000
"""A smaller model stays in float32 on a CPU: its products are no larger than what casting them costs."""


@dataclass(frozen=True)
class Precision:
    """Whether each phase runs in bfloat16; else it runs in float32. `device` is `cpu` or `cuda`."""

    device: str = "cpu"
    train: bool = False
    score: bool = False
    decode: bool = False

    @contextmanager
    def autocast(self, phase: Phase) -> Iterator[None]:
        """Compute in the format of `phase` inside."""
        with torch.autocast(self.device, torch.bfloat16, enabled=getattr(self, phase)):
            yield


def resolve_precision(dtypes: DTypes, *, device: str, num_parameters: int) -> Precision:
    """The precision of a model of `num_parameters` on `device`, `cpu` or `cuda`.

    Raises:
        ConfigError: bfloat16 by name where it is not native.
    """
    native = has_native_bfloat16(device)
    automatic: dict[Phase, bool] = dict.fromkeys(PHASES, native)
    if device == "cpu":
        large = native and num_parameters >= MIN_CPU_PARAMETERS
        automatic = {"train": large, "score": large, "decode": False}
    for phase in PHASES:
        if getattr(dtypes, phase) == "bfloat16" and not native:
            raise ConfigError(f"dtype.{phase} is bfloat16, but this {device} has none. Use auto or float32.")
    choices = {
        phase: automatic[phase] if getattr(dtypes, phase) == "auto" else getattr(dtypes, phase) == "bfloat16"
        for phase in PHASES
    }
    return Precision(device, **choices)


def count_parameters(network: Any) -> int:
    """The number of weights of `network`, shared ones once."""
    return sum(weights.numel() for weights in network.parameters())


DECODER_TEMPERATURE = "decoder_temperature"
"""The fact with the temperature of the decoder `matched`."""


@dataclass(frozen=True)
class LanguageModel:
    """A trained network with its arm's `generation`. `prompts` are real documents whose beginnings are prompts.

    `facts` hold `decoder_temperature` if the arm's decoder is `matched`: it is searched for once, when training ends.
    """

    network: Any
    tokenizer: DocumentTokenizer
    generation: Generation
    prompts: TokenData
    facts: Mapping[str, float] = field(default_factory=dict)
    precision: Precision = field(default_factory=Precision)

    def sample(self, n: int, *, seed: int) -> TokenData:
        """`n` documents, each prompted by the first tokens of a random real one.

        In the form `windows` these real documents are joined and regenerated window by window.
        """
        return self.regenerate(self.draw_prompts(n, seed=seed), seed=seed)

    def draw_prompts(self, n: int, *, seed: int) -> TokenData:
        """`n` random real documents, none twice while there are others."""
        rng = np.random.default_rng(seed)
        return self.prompts.take(rng.choice(len(self.prompts), size=n, replace=n > len(self.prompts)))

    def regenerate(self, data: TokenData, *, seed: int) -> TokenData:
        """`data` regenerated: document by document after its first tokens, or window by window."""
        match self.generation.form:
            case DocumentPrompts() as form:
                prompts = [
                    document[: max(1, min(form.prompt_tokens, len(document) - 1))] for document in data.documents
                ]
                return self.complete(prompts, self.generation.decoder, new_tokens=form.new_tokens, seed=seed)
            case WindowPrompts() as form:
                return data.with_ids(self._rewrite(data.ids, form, seed))

    def edit(self, data: TokenData, *, rule: Rule, sampler: Sampler, seed: int) -> TokenData:
        """`data` with the tokens that `rule` flags resampled; see `editing`."""
        with self.precision.autocast("score"):
            return edit_tokens(self.network, data, rule=rule, sampler=sampler, seed=seed)

    def rephrase(self, data: TokenData, *, instruction: str, max_length_ratio: float, seed: int) -> TokenData:
        """Each document of `data` in the model's words, by the arm's decoder; see `rephrase`."""
        with self.precision.autocast("decode"):
            return rephrase(
                self.network,
                data,
                instruction=instruction,
                max_length_ratio=max_length_ratio,
                decoder=self._fixed(self.generation.decoder),
                batch=self.generation.batch,
                seed=seed,
            )

    def complete(
        self,
        prompts: list[Ids],
        decoder: AnyDecoder,
        *,
        new_tokens: int,
        seed: int,
        batch: int | None = None,
        stop_at_eos: bool = True,
    ) -> TokenData:
        """Each prompt with the model's continuation of `new_tokens`, or fewer with `stop_at_eos`.

        `batch` is that of the arm's generation if not given; the samples depend on it.
        """
        continuations = self._continue(prompts, decoder, new_tokens, seed, stop_at_eos=stop_at_eos, batch=batch)
        documents = [np.concatenate(pair) for pair in zip(prompts, continuations, strict=True)]
        return TokenData.from_documents(documents, self.tokenizer, prompts=[len(prompt) for prompt in prompts])

    def log_probs(self, rows: Sequence[Ids]) -> list[NDArray[np.float32]]:
        """ln p of every token of each row but the first; see `scoring.token_log_probs`."""
        with self.precision.autocast("score"):
            return token_log_probs(self.network, rows, pad=self.tokenizer.pad)

    def continuation_log_probs(self, data: TokenData, *, max_length: int | None = None) -> list[NDArray[np.float32]]:
        """As `log_probs` of each document of `data`, cut at `max_length` tokens, without those of its prompt."""
        return data.drop_prompts(self.log_probs([document[:max_length] for document in data.documents]))

    def save(self, folder: Path) -> None:
        """Write safetensors weights, configuration, tokenizer and `facts.json`: a Hugging Face model folder."""
        with quiet_transformers():
            self.network.save_pretrained(folder)
            self.tokenizer.save(folder)
        (folder / "facts.json").write_text(json.dumps(dict(self.facts)), encoding="utf-8")

    def _fixed(self, decoder: AnyDecoder) -> FixedDecoder:
        """`decoder`, at this model's temperature if it matches one."""
        return decoder.at(self.facts[DECODER_TEMPERATURE]) if isinstance(decoder, MatchedTemperature) else decoder

    def _rewrite(self, ids: Ids, form: WindowPrompts, seed: int) -> Ids:
        """The text window by window, each prompted by the original text before it (ForTIFAI, section on experiments).

        The first token stays, since it has no context; windows near the start have a shorter context.
        """
        firsts = range(1, len(ids), form.new_tokens)
        contexts = [self.tokenizer.begin_block(ids[max(0, first - form.context) : first]) for first in firsts]
        windows = self._continue(contexts, self.generation.decoder, form.new_tokens, seed, stop_at_eos=False)
        return np.concatenate([ids[:1], *windows])[: len(ids)].astype(np.int32)

    def _continue(
        self,
        prompts: list[Ids],
        decoder: AnyDecoder,
        new_tokens: int,
        seed: int,
        *,
        stop_at_eos: bool,
        batch: int | None = None,
    ) -> list[Ids]:
        decoder = self._fixed(decoder)
        with self.precision.autocast("decode"):
            return continue_prompts(
                self.network,
                self.tokenizer,
                prompts,
                decoder=decoder,
                new_tokens=new_tokens,
                stop_at_eos=stop_at_eos,
                batch=batch or self.generation.batch,
                seed=seed,
            )


def new_network(model: Scratch, tokenizer: DocumentTokenizer, *, seed: int) -> Any:
    """Random weights for `tokenizer`'s vocabulary.

    Raises:
        ConfigError: transformers rejects the architecture or its configuration.
    """
    try:
        _check_config_keys(model)
        config = AutoConfig.for_model(
            model.type,
            **{
                "vocab_size": tokenizer.size,
                "bos_token_id": tokenizer.start,
                "eos_token_id": tokenizer.hf_tokenizer.eos_token_id,
                "pad_token_id": tokenizer.hf_tokenizer.pad_token_id,
                **model.config,
            },
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except ConfigError:
        raise
    except LOAD_ERRORS as error:
        raise ConfigError(
            f"model.type {model.type!r} cannot be built ({reason_of(error)}). Correct model.type or model.config."
        ) from None


def _check_config_keys(model: Scratch) -> None:
    """transformers silently ignores a key that the architecture does not know."""
    default = AutoConfig.for_model(model.type)
    known = [*vars(default), *default.attribute_map]
    for key in model.config:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
            raise ConfigError(f"unknown key 'model.config.{key}' for model.type {model.type!r}. {hint}")


def add_adapters(network: Any, low_rank: LowRank, *, seed: int) -> Any:
    """LoRA (Hu et al. 2021) on every linear layer of `network` but its output: the only weights that then train.

    `network` is changed in place, and training still goes through it; pass the result to `merge_adapters`. The adapters
    start at zero.
    """
    peft = require("peft", extra="lora")
    config = peft.LoraConfig(r=low_rank.rank, lora_alpha=low_rank.alpha, target_modules="all-linear")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        # peft uses a name that transformers has deprecated.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        torch.manual_seed(seed)
        return peft.get_peft_model(network, config)


def merge_adapters(adapted: Any) -> Any:
    """The model with the adapters merged into its weights, all of which can be trained again."""
    network = adapted.merge_and_unload()
    network.requires_grad_(True)
    return network


def extrapolate(network: Any, base: Any, factor: float) -> None:
    """Move `network` to the other side of `base`, in place: base - factor * (network - base) (Neon, arXiv 2510.03597).

    `base` is the model whose text `network` was trained on, before that training; the two have the same shape.
    """
    with torch.no_grad():
        for trained, start in zip(network.parameters(), base.parameters(), strict=True):
            trained.copy_(start - factor * (trained - start))


def relative_change(network: Any, base: Any) -> float:
    """|network - base| / |base|, Euclidean over all weights."""
    moved = total = 0.0
    with torch.no_grad():
        for trained, start in zip(network.parameters(), base.parameters(), strict=True):
            moved += float((trained.double() - start.double()).square().sum())
            total += float(start.double().square().sum())
    return math.sqrt(moved / total)
