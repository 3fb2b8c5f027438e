"""The learner: from a training set to a language model, and the subject that the laboratory studies."""

import copy
import json
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.config import CausalLMArm, MatchedTemperature
from tailkeep.lab.causal_lm.data_config import Sampling, TextCorpus
from tailkeep.lab.causal_lm.editing import first_text, load_external
from tailkeep.lab.causal_lm.generation import match_temperature
from tailkeep.lab.causal_lm.loss import build_weighting, is_automatic, settle
from tailkeep.lab.causal_lm.loss_config import UserLosses
from tailkeep.lab.causal_lm.measures import TextMeasure
from tailkeep.lab.causal_lm.model import (
    DECODER_TEMPERATURE,
    LanguageModel,
    add_adapters,
    extrapolate,
    merge_adapters,
    relative_change,
)
from tailkeep.lab.causal_lm.prepare import PreparedData, check_fits, kr_evaluator_of, prepare
from tailkeep.lab.causal_lm.selection import TextSelecting
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData, first_targets, training_rows
from tailkeep.lab.causal_lm.training import train
from tailkeep.lab.protocols import Experiment, View
from tailkeep.lab.regimes import EditRegime
from tailkeep.optional import require
from tailkeep.scoring.loading import load_network, local_folder, quiet_transformers

COMMON = Sampling(name="sample")


@dataclass(frozen=True)
class CausalLMLearner:
    """Trains with the arm's loss, from the predecessor's weights or from where every generation starts."""

    study: CausalLMArm
    codec: DocumentTokenizer
    prompts: TokenData
    calibration: TokenData
    losses: UserLosses
    start: Callable[[int], Any]
    device: str
    bf16: bool

    def fit(self, data: TokenData, *, seed: int, budget: int, previous: LanguageModel | None = None) -> LanguageModel:
        """A new model; `previous` is left as it is."""
        heir = previous if self.study.init_from_previous else None
        network = copy.deepcopy(heir.network) if heir else self.start(seed)
        network.to(self.device).train()
        low_rank = self.study.finetune.low_rank if heir else None
        with quiet_transformers():
            loss, chosen = settle(self.study.loss, previous, self.calibration, seed=seed)
            adapted = add_adapters(network, low_rank, seed=seed) if low_rank else None
            facts = train(
                network,
                training_rows(data, block=self.study.training.block, joined=self.study.joined),
                training=self.study.finetune.training(self.study.training) if heir else self.study.training,
                weighting=build_weighting(loss, self.losses, seed=seed),
                budget=budget,
                pad=self.codec.pad,
                seed=seed,
                device=self.device,
                bf16=self.bf16,
                firsts=first_targets(data, block=self.study.training.block) if self.study.answers else None,
            )
            network = merge_adapters(adapted) if adapted else network
        network.eval()
        if heir:
            facts["weight_change"] = relative_change(network, heir.network)
            if self.study.finetune.extrapolate is not None:
                extrapolate(network, heir.network, self.study.finetune.extrapolate)
        decoder = self.study.generation.decoder
        if isinstance(decoder, MatchedTemperature):
            found = match_temperature(network, self.codec, self.prompts, self.study.generation, decoder, seed=seed)
            facts[DECODER_TEMPERATURE] = found
        return LanguageModel(network, self.codec, self.study.generation, self.prompts, {**facts, **chosen})

    def load(self, folder: Path) -> LanguageModel:
        """A saved model, on this learner's device."""
        network = load_network(folder).to(self.device)
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        return LanguageModel(network, self.codec, self.study.generation, self.prompts, facts)


def build(study: CausalLMArm, *, device: str, losses: UserLosses, shared: MutableMapping[str, Any]) -> Experiment:
    """The language-model recursion that `study` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: a corpus, tokenizer or model that cannot be read or used.
        ConfigError: choices that exclude each other.
    """
    key = study.model_dump_json(
        include={"data", "model", "tokenizer"}, exclude={"data": {"prior", "external_edit", "external_text"}}
    )
    if key not in shared:
        shared[key] = prepare(study)
    prepared: PreparedData = shared[key]
    check_fits(study, prepared)
    device = _device(device)
    real, held_out = prepared.real, prepared.held_out
    if not is_automatic(study.loss):
        build_weighting(study.loss, losses)
    if study.finetune.low_rank is not None:
        require("peft", extra="lora")
    if isinstance(study.regime, EditRegime):
        # Refused here if the tokenizer does not tell what its tokens read as.
        _ = prepared.codec.surfaces
    bf16 = _bf16(study, device)
    return Experiment(
        name="causal_lm",
        real=real,
        learner=CausalLMLearner(
            study, prepared.codec, real, prepared.calibration, losses, prepared.start, device, bf16
        ),
        views=_views(study, held_out),
        measure=TextMeasure(
            real,
            held_out,
            kr_evaluator_of(study, prepared),
            prepared.corpus.truth,
            study.training.block,
            study.joined,
            prepared.corpus.tests,
            prepared.positions,
            answers=study.answers,
        ),
        edits=True,
        select=TextSelecting(real, prepared.corpus.world, study.training.block),
        first_data=_first(study, prepared, device, shared),
    )


def _first(
    study: CausalLMArm, prepared: PreparedData, device: str, shared: MutableMapping[str, Any]
) -> Callable[[int], TokenData] | None:
    """What makes the training set of generation 0 where an outside model does; the model is loaded here."""
    data = study.data
    if not isinstance(data, TextCorpus) or data.outside is None:
        return None
    assert data.prior is not None
    key = f"outside {data.prior.model_dump_json()}"
    if key not in shared:
        folder = local_folder(data.prior.path, revision=data.prior.revision, key="data.prior.path")
        shared[key] = load_external(folder, device=device)
    return first_text(shared[key], data.outside, prepared.corpus.real, prepared.codec)


def _views(study: CausalLMArm, held_out: TokenData) -> dict[str, View]:
    evaluation = study.evaluation
    starts = prompts_for_samples(
        held_out, samples=evaluation.samples, tokens=evaluation.prompt_tokens, joined=study.joined
    )

    def through(decoder: Any) -> View:
        return lambda model, seed: model.complete(
            starts,
            decoder,
            new_tokens=evaluation.new_tokens,
            seed=seed,
            batch=evaluation.batch,
            stops=not study.joined,
        )

    own = study.generation.decoder
    return {"common": through(COMMON)} | ({} if own == COMMON else {"own": through(own)})


def prompts_for_samples(held_out: TokenData, *, samples: int, tokens: int, joined: bool) -> list[Ids]:
    """`samples` prompts of `tokens` held-out tokens: the documents' first ones, in turn.

    Where documents are `joined` into one text, they are taken at even distances all over it: a deterministic decoder
    writes the same after the same prompt, and stories begin alike.
    """
    if joined:
        places = np.linspace(0, max(held_out.units - tokens - 1, 0), samples).astype(int)
        return [held_out.ids[place : place + tokens] for place in places]
    begun = [document[: max(1, min(tokens, len(document) - 1))] for document in held_out.documents]
    return [begun[i % len(begun)] for i in range(samples)]


def _device(choice: str) -> str:
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda was asked for, but torch sees no GPU here. Use device=auto or device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice


def _bf16(study: CausalLMArm, device: str) -> bool:
    can = device == "cuda" and torch.cuda.is_bf16_supported()
    if study.dtype == "bfloat16" and not can:
        raise ConfigError("dtype: bfloat16 was asked for, but this device has none. Use dtype=auto.")
    return can and study.dtype != "float32"
