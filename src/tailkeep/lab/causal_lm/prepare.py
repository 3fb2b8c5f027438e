"""From an arm's files to what arms and seeds share. Rule: what cannot work is an error before anything is trained."""

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
from tailkeep.lab.causal_lm.kr_eval import KREvaluator, assign_fractions
from tailkeep.lab.causal_lm.model import new_network
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, train_tokenizer
from tailkeep.lab.causal_lm.tokens import TokenData, check_length
from tailkeep.lab.regimes import Regenerate
from tailkeep.scoring.loading import load_network, load_tokenizer, local_folder, max_positions_of


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
    measured = arm.evaluation.prompt_tokens + arm.evaluation.new_tokens + prepared.tokenizer.begins_blocks
    needs = {"training.block": arm.training.block + 1, "generation.form": generated, "evaluation": measured}
    needs["a question of the KR-test"] = prepared.max_question_length
    for key, needed in needs.items():
        if positions is not None and needed > positions:
            raise ConfigError(f"{key} needs {needed} positions, the model has {positions}. Use shorter texts.")


def make_kr_evaluator(arm: CausalLMArm, prepared: PreparedData) -> KREvaluator:
    """The KR-test, by fraction where the real data arrives in fractions."""
    questions, lines = prepared.corpus.questions, prepared.corpus.document_lines
    fractions = None
    if isinstance(arm.regime, Regenerate) and lines is not None:
        fractions = assign_fractions(questions, lines, [len(part) for part in arm.regime.parts(prepared.real)])
    return KREvaluator(questions, _form(arm), fractions)


def _form(arm: CausalLMArm) -> Form:
    return getattr(arm.data, "kr_form", None) or "plain"
