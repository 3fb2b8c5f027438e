"""A language model of one generation: how it writes documents, regenerates a text, and is kept on disk."""

import difflib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import (
    AnyDecoder,
    DocumentPrompts,
    Generation,
    LowRank,
    MatchedTemperature,
    Scratch,
    WindowPrompts,
)
from tailkeep.lab.causal_lm.editing import edit_tokens
from tailkeep.lab.causal_lm.generation import continue_prompts
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData
from tailkeep.optional import require
from tailkeep.rules import Rule, Sampler
from tailkeep.scoring import token_log_probs
from tailkeep.scoring.loading import LOAD_ERRORS, quiet_transformers, reason_of

DECODER_TEMPERATURE = "decoder_temperature"
"""The fact that holds what the decoder `matched` was matched to."""


@dataclass(frozen=True)
class LanguageModel:
    """A trained network with the way its arm lets it write. `prompts` are real documents to begin from.

    `facts` hold `decoder_temperature` if the arm's decoder is `matched`: it is sought once, when training ends.
    """

    network: Any
    codec: DocumentTokenizer
    generation: Generation
    prompts: TokenData
    facts: Mapping[str, float] = field(default_factory=dict)

    def sample(self, n: int, *, seed: int) -> TokenData:
        """`n` documents, each begun by the first tokens of a real one drawn at random.

        In the form `windows` the drawn documents are joined and rewritten window by window.
        """
        rng = np.random.default_rng(seed)
        drawn = self.prompts.take(rng.choice(len(self.prompts), size=n, replace=n > len(self.prompts)))
        return self.regenerate(drawn, seed=seed)

    def regenerate(self, data: TokenData, *, seed: int) -> TokenData:
        """`data` written anew: document by document behind its first tokens, or window by window."""
        match self.generation.form:
            case DocumentPrompts() as form:
                starts = [document[: max(1, min(form.prompt_tokens, len(document) - 1))] for document in data.documents]
                return self.complete(starts, self.generation.decoder, new_tokens=form.new_tokens, seed=seed)
            case WindowPrompts() as form:
                return data.like(self._rewrite(data.ids, form, seed))

    def edit(self, data: TokenData, *, rule: Rule, sampler: Sampler, seed: int) -> TokenData:
        """`data` with the tokens that `rule` flags drawn anew; see `editing`."""
        return edit_tokens(self.network, data, rule=rule, sampler=sampler, seed=seed)

    def complete(
        self,
        starts: list[Ids],
        decoder: AnyDecoder,
        *,
        new_tokens: int,
        seed: int,
        batch: int | None = None,
        stops: bool = True,
    ) -> TokenData:
        """Each start with the model's continuation: `new_tokens`, or fewer if it `stops` at the stop token.

        `batch` is that of the arm's writing if not given; the draws depend on it.
        """
        written = self._continue(starts, decoder, new_tokens, seed, stops=stops, batch=batch)
        documents = [np.concatenate([start, tail]) for start, tail in zip(starts, written, strict=True)]
        return TokenData.of(documents, self.codec, prompts=[len(start) for start in starts])

    def log_probs(self, rows: Sequence[Ids]) -> list[NDArray[np.float32]]:
        """ln p of every token of each row but the first; see `scoring.token_log_probs`."""
        return token_log_probs(self.network, rows, pad=self.codec.pad)

    def save(self, folder: Path) -> None:
        """Write safetensors weights, configuration, tokenizer and `facts.json`: a Hugging Face model folder."""
        with quiet_transformers():
            self.network.save_pretrained(folder)
            self.codec.save(folder)
        (folder / "facts.json").write_text(json.dumps(dict(self.facts)), encoding="utf-8")

    def _rewrite(self, ids: Ids, form: WindowPrompts, seed: int) -> Ids:
        """The text window by window, each prompted by the original text before it (ForTIFAI, section on experiments).

        The first token is kept, since nothing stands before it; windows near the start have the context there is.
        """
        firsts = range(1, len(ids), form.new_tokens)
        contexts = [ids[max(0, first - form.context) : first] for first in firsts]
        windows = self._continue(contexts, self.generation.decoder, form.new_tokens, seed, stops=False)
        return np.concatenate([ids[:1], *windows])[: len(ids)].astype(np.int32)

    def _continue(
        self,
        starts: list[Ids],
        decoder: AnyDecoder,
        new_tokens: int,
        seed: int,
        *,
        stops: bool,
        batch: int | None = None,
    ) -> list[Ids]:
        return continue_prompts(
            self.network,
            self.codec,
            starts,
            decoder=decoder.at(self.facts[DECODER_TEMPERATURE]) if isinstance(decoder, MatchedTemperature) else decoder,
            new_tokens=new_tokens,
            stops=stops,
            batch=batch or self.generation.batch,
            seed=seed,
        )


# New weights of a named architecture. Rule: code is transformers' own; a pretrained model is `scoring.source`'s.


def new_network(model: Scratch, codec: DocumentTokenizer, *, seed: int) -> Any:
    """Random weights for `codec`'s vocabulary.

    Raises:
        ConfigError: the architecture or its configuration is refused.
    """
    try:
        _refuse_unknown(model)
        config = AutoConfig.for_model(
            model.type,
            **{
                "vocab_size": codec.size,
                "bos_token_id": codec.start,
                "eos_token_id": codec.tokenizer.eos_token_id,
                "pad_token_id": codec.tokenizer.pad_token_id,
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


def _refuse_unknown(model: Scratch) -> None:
    """transformers keeps a key that the architecture does not know, and does nothing with it."""
    default = AutoConfig.for_model(model.type)
    known = [*vars(default), *default.attribute_map]
    for key in model.config:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
            raise ConfigError(f"unknown key 'model.config.{key}' for model.type {model.type!r}. {hint}")


# What an heir does in the space of weights: moves in few dimensions, or away from where its own text has drawn it.
#
# Rule: what comes out is a plain model of the same shape, which saves, writes and is measured as any other.


def add_adapters(network: Any, low_rank: LowRank, *, seed: int) -> Any:
    """LoRA (Hu et al. 2021) on every linear layer of `network` but its output: the only weights that then train.

    `network` itself is changed and stays what is trained; the result is for `merge_adapters`. The adapters add nothing
    at first.
    """
    peft = require("peft", extra="lora")
    config = peft.LoraConfig(r=low_rank.rank, lora_alpha=low_rank.alpha, target_modules="all-linear")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        # peft asks by a name that transformers has given up.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        torch.manual_seed(seed)
        return peft.get_peft_model(network, config)


def merge_adapters(adapted: Any) -> Any:
    """The plain model with the adapters added into its weights, all of which can be trained again."""
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
