"""The learner `causal_lm`: from an arm's files to what its seeds share, and from a training set to a language model.

Rules: what cannot work is an error before anything is trained. A previous model is never changed; what it passes on is
copied.
"""

import copy
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.data import Form
from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.config import CausalLMArm, MatchedTemperature, Pretrained, UserLosses, WindowPrompts
from tailkeep.lab.causal_lm.data_config import Sampling, TextCorpus
from tailkeep.lab.causal_lm.dataset import TextDataset, read_dataset
from tailkeep.lab.causal_lm.editing import load_external, make_first_data
from tailkeep.lab.causal_lm.generation import check_fits_rephrasing, match_temperature
from tailkeep.lab.causal_lm.kr_eval import KREvaluator, assign_fractions
from tailkeep.lab.causal_lm.measures import TextMeasure, perplexity_by_first
from tailkeep.lab.causal_lm.model import (
    DECODER_TEMPERATURE,
    LanguageModel,
    Precision,
    add_adapters,
    count_parameters,
    extrapolate,
    merge_adapters,
    new_network,
    relative_change,
    resolve_precision,
)
from tailkeep.lab.causal_lm.selection import ReplayMeasure, TextReplay, TextSelector, check_fits_replay
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids, train_tokenizer
from tailkeep.lab.causal_lm.tokens import TokenData, check_length, first_targets, training_rows
from tailkeep.lab.causal_lm.training import build_weighting, check_arguments, is_automatic, settle, train
from tailkeep.lab.device import resolve_device
from tailkeep.lab.protocols import Experiment, View
from tailkeep.lab.regimes import Regenerate
from tailkeep.lab.text_regimes import EditRegime, Rephrase, Replay
from tailkeep.optional import require
from tailkeep.scoring.loading import load_network, load_tokenizer, local_folder, max_positions_of, quiet_transformers


@dataclass(frozen=True)
class PreparedData:
    """What arms and seeds share: the corpus as tokens, and `initial_network`, a function of a seed."""

    corpus: TextDataset
    tokenizer: DocumentTokenizer
    real: TokenData
    held_out: TokenData
    calibration: TokenData
    max_question_length: int
    initial_network: Callable[[int], Any]

    @cached_property
    def positions(self) -> int | None:
        """The longest row that the network reads, if its configuration says."""
        return max_positions_of(self.initial_network(0))


def prepare(arm: CausalLMArm) -> PreparedData:
    """Read the files of `arm`.

    Raises:
        InputError: a corpus, tokenizer or model that cannot be read or used.
        ConfigError: choices that exclude each other.
    """
    corpus = read_dataset(arm.data)
    folder = None
    if isinstance(arm.model, Pretrained):
        folder = local_folder(arm.model.path, revision=arm.model.revision, key="model.path")
    tokenizer = _load_tokenizer(arm, corpus, folder)
    real, held_out, calibration = (
        TokenData.from_records(records, tokenizer) for records in (corpus.real, corpus.held_out, corpus.calibration)
    )
    max_length = KREvaluator(corpus.questions, _form(arm)).max_length(tokenizer.encode_without_eos)
    return PreparedData(
        corpus, tokenizer, real, held_out, calibration, max_length, _initial_network(arm, tokenizer, folder)
    )


def _load_tokenizer(arm: CausalLMArm, corpus: TextDataset, folder: Path | None) -> DocumentTokenizer:
    config = arm.tokenizer
    if config.train is not None and (config.path is not None or folder is not None):
        raise ConfigError(
            "tokenizer.train makes a new vocabulary, which fits neither tokenizer.path nor a pretrained model. "
            "Leave it out, or start from scratch (model.name=scratch)."
        )
    if config.train is not None:
        tokenizer = train_tokenizer([record.full_text for record in corpus.real], vocab_size=config.train.vocab_size)
    elif config.path is not None or folder is not None:
        key = "model.path" if config.path is None else "tokenizer.path"
        advice = "Save the model's own there, or set tokenizer.path."
        tokenizer = load_tokenizer(config.path or folder or Path(), key=key, advice=advice)
    else:
        raise ConfigError(
            "tokenizer: a model from scratch needs one. Set tokenizer.train.vocab_size or tokenizer.path."
        )
    if tokenizer.eos_token_id is None and config.append_eos and not config.chat_template:
        raise ConfigError("tokenizer.append_eos: this tokenizer has no end-of-text token. Set it to false.")
    return DocumentTokenizer(
        tokenizer, config.append_eos, config.start_token, config.chat_template, config.start_before
    )


def _initial_network(arm: CausalLMArm, tokenizer: DocumentTokenizer, folder: Path | None) -> Callable[[int], Any]:
    if folder is not None:
        network = load_network(folder)
        return lambda seed: copy.deepcopy(network)  # noqa: ARG005
    model = arm.model
    assert not isinstance(model, Pretrained)
    return lambda seed: new_network(model, tokenizer, seed=seed)


def check_fits(arm: CausalLMArm, prepared: PreparedData) -> None:
    """Check vocabulary and lengths against the network, and that no text is too short, before anything is trained."""
    config = prepared.initial_network(0).config.get_text_config()
    if prepared.tokenizer.size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {prepared.tokenizer.size} ids, the model {config.vocab_size}. "
            "Give the tokenizer that the model was trained with."
        )
    for what, text in (("real", prepared.real), ("held-out", prepared.held_out)):
        check_length(text, block=arm.training.block, joined=arm.joined, what=what)
    positions = prepared.positions
    form = arm.generation.form
    generated = form.new_tokens + (form.context if isinstance(form, WindowPrompts) else form.prompt_tokens)
    generated += prepared.tokenizer.begins_blocks
    prompt_tokens = int(prepared.held_out.prompts.max()) if arm.answers else arm.evaluation.prompt_tokens
    measured = prompt_tokens + arm.evaluation.new_tokens + prepared.tokenizer.begins_blocks
    needs = {"training.block": arm.training.block + 1, "generation.form": generated, "evaluation": measured}
    needs["a question of the KR-test"] = prepared.max_question_length
    for key, needed in needs.items():
        if positions is not None and needed > positions:
            raise ConfigError(f"{key} needs {needed} positions, the model has {positions}. Use shorter texts.")


def make_kr_evaluator(arm: CausalLMArm, prepared: PreparedData) -> KREvaluator:
    """The KR-test of what is among the real documents, by fraction where these arrive in fractions."""
    questions, lines = prepared.corpus.questions, prepared.corpus.document_lines
    in_parts = isinstance(arm.regime, Regenerate)
    parts = arm.regime.parts(prepared.real) if isinstance(arm.regime, Regenerate) else [prepared.real]
    fractions = None if lines is None else assign_fractions(questions, lines, [len(part) for part in parts])
    return KREvaluator(questions, _form(arm), fractions, in_parts)


def _form(arm: CausalLMArm) -> Form:
    return getattr(arm.data, "kr_form", None) or "plain"


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
            with self.precision.autocast("decode"):
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
    if isinstance(arm.regime, Replay):
        check_fits_replay(real, arm.regime)
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
        select=TextSelector(real, prepared.corpus.world, arm.training.block),
        replay=TextReplay(real, prepared.corpus.world, arm.training.block),
        first_data=_first_data(arm, prepared, device, shared),
        measure_by_first=perplexity_by_first if arm.evaluation.first_model else None,
        measure_by_generated=ReplayMeasure(real, prepared.corpus.world) if isinstance(arm.regime, Replay) else None,
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
    tokens = None if arm.answers else evaluation.prompt_tokens
    prompts = sample_prompts(held_out, samples=evaluation.samples, tokens=tokens, joined=arm.joined)

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


def sample_prompts(held_out: TokenData, *, samples: int, tokens: int | None, joined: bool) -> list[Ids]:
    """`samples` prompts of `tokens` held-out tokens: the documents' first ones, in turn; None: the prompts of records.

    Where documents are `joined` into one text, prompts are evenly spaced in it: a deterministic decoder generates the
    same after the same prompt, and stories begin alike.
    """
    if tokens is None:
        beginnings = [document[:prompt] for document, prompt in zip(held_out.documents, held_out.prompts, strict=True)]
    elif joined:
        positions = np.linspace(0, max(held_out.units - tokens - 1, 0), samples).astype(int)
        return [held_out.tokenizer.begin_block(held_out.ids[position : position + tokens]) for position in positions]
    else:
        beginnings = [document[: max(1, min(tokens, len(document) - 1))] for document in held_out.documents]
    return [beginnings[i % len(beginnings)] for i in range(samples)]
