"""From a study's files to what its arms and seeds share. Rule: what cannot work is refused before it is trained."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tailkeep.data import Form
from tailkeep.errors import ConfigError, InputError
from tailkeep.lab.causal_lm.config import CausalLMArm, Pretrained, WindowPrompts
from tailkeep.lab.causal_lm.dataset import TextDataset, read_dataset
from tailkeep.lab.causal_lm.kr_eval import KREvaluator, parts_of
from tailkeep.lab.causal_lm.model import new_network
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, load_tokenizer, train_tokenizer
from tailkeep.lab.causal_lm.tokens import TokenData, refuse_short
from tailkeep.lab.regimes import Regenerate
from tailkeep.scoring.loading import load_network, local_folder, max_positions_of


@dataclass(frozen=True)
class PreparedData:
    """What arms and seeds share: the corpus as tokens, and where every generation starts."""

    corpus: TextDataset
    codec: DocumentTokenizer
    real: TokenData
    held_out: TokenData
    calibration: TokenData
    longest_question: int
    start: Callable[[int], Any]

    @cached_property
    def positions(self) -> int | None:
        """The longest row that the network reads, if its configuration says."""
        return max_positions_of(self.start(0))


def prepare(study: CausalLMArm) -> PreparedData:
    """The files of `study`, read.

    Raises:
        InputError: a corpus, tokenizer or model that cannot be read or used.
        ConfigError: choices that exclude each other.
    """
    corpus = read_dataset(study.data)
    folder = None
    if isinstance(study.model, Pretrained):
        folder = local_folder(study.model.path, revision=study.model.revision, key="model.path")
    codec = _codec(study, corpus, folder)
    real, held_out, calibration = (
        TokenData.of_records(records, codec) for records in (corpus.real, corpus.held_out, corpus.calibration)
    )
    longest = KREvaluator(corpus.questions, _form(study)).longest(codec.encode_without_eos)
    return PreparedData(corpus, codec, real, held_out, calibration, longest, _start(study, codec, folder))


def _codec(study: CausalLMArm, corpus: TextDataset, folder: Path | None) -> DocumentTokenizer:
    choice = study.tokenizer
    if choice.train is not None and (choice.path is not None or folder is not None):
        raise ConfigError(
            "tokenizer.train makes a new vocabulary, which fits neither tokenizer.path nor a pretrained model. "
            "Leave it out, or start from scratch (model.name=scratch)."
        )
    if choice.train is not None:
        tokenizer = train_tokenizer([record.full_text for record in corpus.real], vocab_size=choice.train.vocab_size)
    elif choice.path is not None or folder is not None:
        tokenizer = load_tokenizer(choice.path or folder or Path())
    else:
        raise ConfigError(
            "tokenizer: a model from scratch needs one. Set tokenizer.train.vocab_size or tokenizer.path."
        )
    if tokenizer.eos_token_id is None and choice.append_eos:
        raise ConfigError("tokenizer.append_eos: this tokenizer has no end-of-text token. Set it to false.")
    return DocumentTokenizer(tokenizer, choice.append_eos)


def _start(study: CausalLMArm, codec: DocumentTokenizer, folder: Path | None) -> Callable[[int], Any]:
    if folder is not None:
        network = load_network(folder)
        return lambda seed: copy.deepcopy(network)  # noqa: ARG005
    model = study.model
    assert not isinstance(model, Pretrained)
    return lambda seed: new_network(model, codec, seed=seed)


def check_fits(study: CausalLMArm, prepared: PreparedData) -> None:
    """Lengths and vocabularies that the network cannot take, and text too short, found before an hour of training."""
    config = prepared.start(0).config.get_text_config()
    if prepared.codec.size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {prepared.codec.size} ids, the model {config.vocab_size}. "
            "Give the tokenizer that the model was trained with."
        )
    for what, text in (("real", prepared.real), ("held-out", prepared.held_out)):
        refuse_short(text, block=study.training.block, joined=study.joined, what=what)
    positions = prepared.positions
    form = study.generation.form
    written = form.new_tokens + (form.context if isinstance(form, WindowPrompts) else form.prompt_tokens)
    measured = study.evaluation.prompt_tokens + study.evaluation.new_tokens
    needs = {"training.block": study.training.block + 1, "generation.form": written, "evaluation": measured}
    needs["a question of the KR-test"] = prepared.longest_question
    for key, needed in needs.items():
        if positions is not None and needed > positions:
            raise ConfigError(f"{key} needs {needed} positions, the model has {positions}. Choose shorter texts.")


def kr_evaluator_of(study: CausalLMArm, prepared: PreparedData) -> KREvaluator:
    """The KR-test, by fraction where the real data arrives in fractions."""
    questions, places = prepared.corpus.questions, prepared.corpus.places
    parts = None
    if isinstance(study.regime, Regenerate) and places is not None:
        parts = parts_of(questions, places, [len(part) for part in study.regime.parts(prepared.real)])
    return KREvaluator(questions, _form(study), parts)


def _form(study: CausalLMArm) -> Form:
    return getattr(study.data, "kr_form", None) or "plain"
