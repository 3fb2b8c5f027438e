"""The learner `causal_lm`: from a training set to a language model, and the arm's experiment.

Rule: a previous model is never changed; what it passes on is copied.
"""

import copy
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.lab.causal_lm.config import CausalLMArm, MatchedTemperature
from tailkeep.lab.causal_lm.data_config import Sampling, TextCorpus
from tailkeep.lab.causal_lm.editing import load_external, make_first_data
from tailkeep.lab.causal_lm.generation import match_temperature
from tailkeep.lab.causal_lm.loss import build_weighting, is_automatic, settle
from tailkeep.lab.causal_lm.loss_config import UserLosses
from tailkeep.lab.causal_lm.measures import TextMeasure, perplexity_by_first
from tailkeep.lab.causal_lm.model import (
    DECODER_TEMPERATURE,
    LanguageModel,
    add_adapters,
    extrapolate,
    merge_adapters,
    relative_change,
)
from tailkeep.lab.causal_lm.precision import Precision, count_parameters, resolve_precision
from tailkeep.lab.causal_lm.prepare import PreparedData, check_fits, make_kr_evaluator, prepare
from tailkeep.lab.causal_lm.rephrase import check_fits_rephrasing
from tailkeep.lab.causal_lm.selection import TextSelector
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData, first_targets, training_rows
from tailkeep.lab.causal_lm.training import check_arguments, train
from tailkeep.lab.device import resolve_device
from tailkeep.lab.protocols import Experiment, View
from tailkeep.lab.text_regimes import EditRegime, Rephrase
from tailkeep.optional import require
from tailkeep.scoring.loading import load_network, local_folder, quiet_transformers

COMMON = Sampling(name="sample")


@dataclass(frozen=True)
class CausalLMLearner:
    """Trains with the arm's loss, from the previous model's weights or from the initial ones."""

    arm: CausalLMArm
    tokenizer: DocumentTokenizer
    prompts: TokenData
    calibration: TokenData
    losses: UserLosses
    initial_network: Callable[[int], Any]
    device: str
    precision: Precision

    def fit(self, data: TokenData, *, seed: int, budget: int, previous: LanguageModel | None = None) -> LanguageModel:
        """A new model; `previous` is left as it is."""
        inherited = previous if self.arm.init_from_previous else None
        network = copy.deepcopy(inherited.network) if inherited else self.initial_network(seed)
        network.to(self.device).train()
        low_rank = self.arm.finetune.low_rank if inherited else None
        with quiet_transformers():
            loss, loss_facts = settle(self.arm.loss, previous, self.calibration, seed=seed)
            adapted = add_adapters(network, low_rank, seed=seed) if low_rank else None
            facts = train(
                network,
                training_rows(data, block=self.arm.training.block, joined=self.arm.joined),
                training=self.arm.finetune.training(self.arm.training) if inherited else self.arm.training,
                weighting=build_weighting(loss, self.losses, seed=seed),
                budget=budget,
                pad=self.tokenizer.pad,
                seed=seed,
                device=self.device,
                bf16=self.precision.train,
                firsts=first_targets(data, block=self.arm.training.block) if self.arm.answers else None,
            )
            network = merge_adapters(adapted) if adapted else network
        network.eval()
        if inherited:
            facts["weight_change"] = relative_change(network, inherited.network)
            if self.arm.finetune.extrapolate is not None:
                extrapolate(network, inherited.network, self.arm.finetune.extrapolate)
        decoder = self.arm.generation.decoder
        if isinstance(decoder, MatchedTemperature):
            facts[DECODER_TEMPERATURE] = match_temperature(
                network, self.tokenizer, self.prompts, self.arm.generation, decoder, seed=seed
            )
        return self._model(network, {**facts, **loss_facts})

    def load(self, folder: Path) -> LanguageModel:
        """A saved model, on this learner's device."""
        network = load_network(folder).to(self.device)
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        return self._model(network, facts)

    def _model(self, network: Any, facts: Mapping[str, float]) -> LanguageModel:
        return LanguageModel(
            network, self.tokenizer, self.arm.generation, self.prompts, facts, precision=self.precision
        )


def build(arm: CausalLMArm, *, device: str, losses: UserLosses, shared: MutableMapping[str, Any]) -> Experiment:
    """The experiment of `arm`; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: a corpus, tokenizer or model that cannot be read or used.
        ConfigError: choices that exclude each other.
    """
    key = arm.model_dump_json(
        include={"data", "model", "tokenizer"}, exclude={"data": {"prior", "external_edit", "external_text"}}
    )
    if key not in shared:
        shared[key] = prepare(arm)
    prepared: PreparedData = shared[key]
    check_fits(arm, prepared)
    device = resolve_device(device)
    real, held_out = prepared.real, prepared.held_out
    if not is_automatic(arm.loss):
        build_weighting(arm.loss, losses)
    check_arguments(arm.training.arguments)
    if arm.finetune.low_rank is not None:
        require("peft", extra="lora")
    if isinstance(arm.regime, Rephrase):
        check_fits_rephrasing(
            real,
            instruction=arm.regime.instruction,
            max_length_ratio=arm.regime.max_length_ratio,
            positions=prepared.positions,
        )
    if isinstance(arm.regime, EditRegime):
        # An error here if the texts of the tokenizer's ids cannot be read.
        _ = prepared.tokenizer.token_texts
    num_parameters = count_parameters(prepared.initial_network(0))
    precision = resolve_precision(arm.dtype, device=device, num_parameters=num_parameters)
    return Experiment(
        name="causal_lm",
        real=real,
        learner=CausalLMLearner(
            arm, prepared.tokenizer, real, prepared.calibration, losses, prepared.initial_network, device, precision
        ),
        views=_views(arm, held_out),
        measure=TextMeasure(
            real,
            held_out,
            make_kr_evaluator(arm, prepared),
            prepared.corpus.truth,
            arm.training.block,
            arm.joined,
            prepared.corpus.tests,
            prepared.positions,
            answers=arm.answers,
            people=prepared.corpus.people,
            language=arm.evaluation.language,
        ),
        edits=True,
        rephrases=True,
        select=TextSelector(real, prepared.corpus.world, arm.training.block),
        first_data=_first_data(arm, prepared, device, shared),
        measure_by_first=perplexity_by_first if arm.evaluation.first_model else None,
    )


def _first_data(
    arm: CausalLMArm, prepared: PreparedData, device: str, shared: MutableMapping[str, Any]
) -> Callable[[int], TokenData] | None:
    """Makes the training set of generation 0 where an external model does; that model is loaded here."""
    data = arm.data
    if not isinstance(data, TextCorpus) or data.external is None:
        return None
    assert data.prior is not None
    key = f"external {data.prior.model_dump_json()}"
    if key not in shared:
        folder = local_folder(data.prior.path, revision=data.prior.revision, key="data.prior.path")
        shared[key] = load_external(folder, device=device)
    return make_first_data(shared[key], data.external, prepared.corpus.real, prepared.tokenizer)


def _views(arm: CausalLMArm, held_out: TokenData) -> dict[str, View]:
    evaluation = arm.evaluation
    prompts = sample_prompts(held_out, samples=evaluation.samples, tokens=evaluation.prompt_tokens, joined=arm.joined)

    def through(decoder: Any) -> View:
        return lambda model, seed: model.complete(
            prompts,
            decoder,
            new_tokens=evaluation.new_tokens,
            seed=seed,
            batch=evaluation.batch,
            stop_at_eos=not arm.joined,
        )

    decoder = arm.generation.decoder
    return {"common": through(COMMON)} | ({} if decoder == COMMON else {"own": through(decoder)})


def sample_prompts(held_out: TokenData, *, samples: int, tokens: int, joined: bool) -> list[Ids]:
    """`samples` prompts of `tokens` held-out tokens: the documents' first ones, in turn.

    Where documents are `joined` into one text, prompts are evenly spaced in it: a deterministic decoder generates the
    same after the same prompt, and stories begin alike.
    """
    if joined:
        positions = np.linspace(0, max(held_out.units - tokens - 1, 0), samples).astype(int)
        return [held_out.tokenizer.begin_block(held_out.ids[position : position + tokens]) for position in positions]
    beginnings = [document[: max(1, min(tokens, len(document) - 1))] for document in held_out.documents]
    return [beginnings[i % len(beginnings)] for i in range(samples)]
