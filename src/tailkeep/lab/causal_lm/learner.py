"""The learner: from a training set to a language model, and the subject that the laboratory studies."""

import copy
import json
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.automatic import is_automatic, settle
from tailkeep.lab.causal_lm.codec import Codec, Ids, load_tokenizer, train_tokenizer
from tailkeep.lab.causal_lm.corpora import TextCorpus
from tailkeep.lab.causal_lm.corpus import Corpus, read_corpus
from tailkeep.lab.causal_lm.decoders import Sampling
from tailkeep.lab.causal_lm.losses import UserLosses
from tailkeep.lab.causal_lm.matching import match_temperature
from tailkeep.lab.causal_lm.measures import TextMeasure
from tailkeep.lab.causal_lm.model import DECODER_TEMPERATURE, LanguageModel
from tailkeep.lab.causal_lm.settings import CausalLMStudy, Matched, Pretrained, Windows
from tailkeep.lab.causal_lm.source import new_network
from tailkeep.lab.causal_lm.tokens import Tokens, first_targets, refuse_short, training_rows
from tailkeep.lab.causal_lm.training import train
from tailkeep.lab.causal_lm.treating import first_text, load_outside
from tailkeep.lab.causal_lm.weight_space import add_adapters, extrapolate, merge_adapters, relative_change
from tailkeep.lab.causal_lm.weighting import build_weighting
from tailkeep.lab.editing import Edit
from tailkeep.lab.protocols import Subject, View
from tailkeep.optional import require
from tailkeep.scoring import question_rows
from tailkeep.scoring.quiet import quiet_transformers
from tailkeep.scoring.source import load_network, local_folder

COMMON = Sampling(name="sample")


@dataclass(frozen=True)
class CausalLMLearner:
    """Trains with the arm's loss, from the predecessor's weights or from where every generation starts."""

    study: CausalLMStudy
    codec: Codec
    prompts: Tokens
    calibration: Tokens
    losses: UserLosses
    start: Callable[[int], Any]
    device: str
    bf16: bool

    def fit(self, data: Tokens, *, seed: int, budget: int, previous: LanguageModel | None = None) -> LanguageModel:
        """A new model; `previous` is left as it is."""
        heir = previous if self.study.inherit else None
        network = copy.deepcopy(heir.network) if heir else self.start(seed)
        network.to(self.device).train()
        low_rank = self.study.inherited.low_rank if heir else None
        with quiet_transformers():
            loss, chosen = settle(self.study.loss, previous, self.calibration, seed=seed)
            adapted = add_adapters(network, low_rank, seed=seed) if low_rank else None
            facts = train(
                network,
                training_rows(data, block=self.study.training.block, joined=_joined(self.study)),
                training=self.study.inherited.training(self.study.training) if heir else self.study.training,
                weighting=build_weighting(loss, self.losses, seed=seed),
                budget=budget,
                pad=self.codec.pad,
                seed=seed,
                device=self.device,
                bf16=self.bf16,
                firsts=first_targets(data, block=self.study.training.block) if _answers(self.study) else None,
            )
            network = merge_adapters(adapted) if adapted else network
        network.eval()
        if heir:
            facts["weight_change"] = relative_change(network, heir.network)
            if self.study.inherited.extrapolate is not None:
                extrapolate(network, heir.network, self.study.inherited.extrapolate)
        decoder = self.study.writing.decoder
        if isinstance(decoder, Matched):
            found = match_temperature(network, self.codec, self.prompts, self.study.writing, decoder, seed=seed)
            facts[DECODER_TEMPERATURE] = found
        return LanguageModel(network, self.codec, self.study.writing, self.prompts, {**facts, **chosen})

    def load(self, folder: Path) -> LanguageModel:
        """A saved model, on this learner's device."""
        network = load_network(folder).to(self.device)
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        return LanguageModel(network, self.codec, self.study.writing, self.prompts, facts)


@dataclass(frozen=True)
class Prepared:
    """What arms and seeds share: the corpus as tokens, and where every generation starts."""

    corpus: Corpus
    codec: Codec
    real: Tokens
    held_out: Tokens
    calibration: Tokens
    longest_question: int
    start: Callable[[int], Any]

    @cached_property
    def positions(self) -> int | None:
        """The longest row that the network reads, if its configuration says."""
        found: int | None = getattr(self.start(0).config.get_text_config(), "max_position_embeddings", None)
        return found


def build(study: CausalLMStudy, *, device: str, losses: UserLosses, shared: MutableMapping[str, Any]) -> Subject:
    """The language-model recursion that `study` describes; `shared` keeps what other arms and seeds need too.

    Raises:
        InputError: a corpus, tokenizer or model that cannot be read or used.
        ConfigError: choices that exclude each other.
    """
    key = study.model_dump_json(include={"data", "model", "tokenizer"}, exclude={"data": {"prior", "edit", "written"}})
    if key not in shared:
        shared[key] = _prepare(study)
    prepared: Prepared = shared[key]
    _refuse_misfits(study, prepared)
    device = _device(device)
    joined = _joined(study)
    real, held_out = prepared.real, prepared.held_out
    if not is_automatic(study.loss):
        build_weighting(study.loss, losses)
    if study.inherited.low_rank is not None:
        require("peft", extra="lora")
    if isinstance(study.regime, Edit):
        # Refused here if the tokenizer does not tell what its tokens read as.
        _ = prepared.codec.surfaces
    bf16 = _bf16(study, device)
    return Subject(
        name="causal_lm",
        real=real,
        learner=CausalLMLearner(
            study, prepared.codec, real, prepared.calibration, losses, prepared.start, device, bf16
        ),
        views=_views(study, held_out),
        measure=TextMeasure(
            real,
            held_out,
            prepared.corpus.questions,
            prepared.corpus.truth,
            study.training.block,
            joined,
            prepared.corpus.tests,
            prepared.positions,
            answers=_answers(study),
        ),
        edits=True,
        first=_first(study, prepared, device, shared),
    )


def _first(
    study: CausalLMStudy, prepared: Prepared, device: str, shared: MutableMapping[str, Any]
) -> Callable[[int], Tokens] | None:
    """What makes the training set of generation 0 where an outside model does; the model is loaded here."""
    data = study.data
    if not isinstance(data, TextCorpus) or data.outside is None:
        return None
    assert data.prior is not None
    key = f"outside {data.prior.model_dump_json()}"
    if key not in shared:
        folder = local_folder(data.prior.path, revision=data.prior.revision, key="data.prior")
        shared[key] = load_outside(folder, device=device)
    return first_text(shared[key], data.outside, prepared.corpus.real, prepared.codec)


def _prepare(study: CausalLMStudy) -> Prepared:
    corpus = read_corpus(study.data)
    folder = None
    if isinstance(study.model, Pretrained):
        folder = local_folder(study.model.path, revision=study.model.revision, key="model")
    codec = _codec(study, corpus, folder)
    real, held_out, calibration = (
        Tokens.of_records(records, codec) for records in (corpus.real, corpus.held_out, corpus.calibration)
    )
    asked = [row for question in corpus.questions for row in question_rows(question, codec.encode_open)[1:]]
    longest = max(map(len, asked), default=0)
    return Prepared(corpus, codec, real, held_out, calibration, longest, _start(study, codec, folder))


def _codec(study: CausalLMStudy, corpus: Corpus, folder: Path | None) -> Codec:
    choice = study.tokenizer
    if choice.train is not None and (choice.path is not None or folder is not None):
        raise ConfigError(
            "tokenizer.train makes a new vocabulary, which fits neither tokenizer.path nor a pretrained model. "
            "Leave it out, or start from scratch (model.name=scratch)."
        )
    if choice.train is not None:
        tokenizer = train_tokenizer([record.whole for record in corpus.real], vocab_size=choice.train.vocab_size)
    elif choice.path is not None or folder is not None:
        tokenizer = load_tokenizer(choice.path or folder or Path())
    else:
        raise ConfigError(
            "tokenizer: a model from scratch needs one. Set tokenizer.train.vocab_size or tokenizer.path."
        )
    if tokenizer.eos_token_id is None and choice.append_eos:
        raise ConfigError("tokenizer.append_eos: this tokenizer has no end-of-text token. Set it to false.")
    return Codec(tokenizer, choice.append_eos)


def _start(study: CausalLMStudy, codec: Codec, folder: Path | None) -> Callable[[int], Any]:
    if folder is not None:
        network = load_network(folder)
        return lambda seed: copy.deepcopy(network)  # noqa: ARG005
    model = study.model
    assert not isinstance(model, Pretrained)
    return lambda seed: new_network(model, codec, seed=seed)


def _refuse_misfits(study: CausalLMStudy, prepared: Prepared) -> None:
    """Lengths and vocabularies that the network cannot take, and text too short, found before an hour of training."""
    config = prepared.start(0).config.get_text_config()
    if prepared.codec.size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {prepared.codec.size} ids, the model {config.vocab_size}. "
            "Give the tokenizer that the model was trained with."
        )
    for what, text in (("real", prepared.real), ("held-out", prepared.held_out)):
        refuse_short(text, block=study.training.block, joined=_joined(study), what=what)
    positions = prepared.positions
    form = study.writing.form
    written = form.new_tokens + (form.context if isinstance(form, Windows) else form.prompt_tokens)
    measured = study.measuring.prompt_tokens + study.measuring.new_tokens
    needs = {"training.block": study.training.block + 1, "writing.form": written, "measuring": measured}
    needs["a question of the KR-test"] = prepared.longest_question
    for key, needed in needs.items():
        if positions is not None and needed > positions:
            raise ConfigError(f"{key} needs {needed} positions, the model has {positions}. Choose shorter texts.")


def _views(study: CausalLMStudy, held_out: Tokens) -> dict[str, View]:
    measuring = study.measuring
    starts = prompts_for_samples(
        held_out, samples=measuring.samples, tokens=measuring.prompt_tokens, joined=_joined(study)
    )

    def through(decoder: Any) -> View:
        return lambda model, seed: model.complete(
            starts,
            decoder,
            new_tokens=measuring.new_tokens,
            seed=seed,
            batch=measuring.batch,
            stops=not _joined(study),
        )

    own = study.writing.decoder
    return {"common": through(COMMON)} | ({} if own == COMMON else {"own": through(own)})


def prompts_for_samples(held_out: Tokens, *, samples: int, tokens: int, joined: bool) -> list[Ids]:
    """`samples` prompts of `tokens` held-out tokens: the documents' first ones, in turn.

    Where documents are `joined` into one text, they are taken at even distances all over it: a deterministic decoder
    writes the same after the same prompt, and stories begin alike.
    """
    if joined:
        places = np.linspace(0, max(held_out.units - tokens - 1, 0), samples).astype(int)
        return [held_out.ids[place : place + tokens] for place in places]
    begun = [document[: max(1, min(tokens, len(document) - 1))] for document in held_out.documents]
    return [begun[i % len(begun)] for i in range(samples)]


def _answers(study: CausalLMStudy) -> bool:
    """Whether documents are records, of which only what stands behind the prompt is a target."""
    return isinstance(study.data, TextCorpus) and study.data.prompt_field is not None


def _joined(study: CausalLMStudy) -> bool:
    return isinstance(study.writing.form, Windows)


def _device(choice: str) -> str:
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda was asked for, but torch sees no GPU here. Use device=auto or device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice


def _bf16(study: CausalLMStudy, device: str) -> bool:
    can = device == "cuda" and torch.cuda.is_bf16_supported()
    if study.dtype == "bfloat16" and not can:
        raise ConfigError("dtype: bfloat16 was asked for, but this device has none. Use dtype=auto.")
    return can and study.dtype != "float32"
