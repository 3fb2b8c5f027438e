"""The choices of what a language model is studied on: text files or the embedded world, and the tests beside them."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tailkeep.config import InputPath, Settings
from tailkeep.data import Form, WorldConfig
from tailkeep.lab.arm import Positive
from tailkeep.rules import Low, Random, Rule, Sampler, ToEdit, check_has_effect

# How a language model's tokens are chosen when it writes: the decoders without a state.


class Greedy(Settings):
    """The most likely token."""

    name: Literal["greedy"]
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0


class Beam(Settings):
    """Beam search; the published ForTIFAI decoder is five beams with repetition penalty 3."""

    name: Literal["beam"]
    beams: Annotated[int, Field(ge=2)] = 5
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0


class Sampling(Settings):
    """Random draws: from the whole distribution unless a cut is given."""

    name: Literal["sample"]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0


FixedDecoder = Greedy | Beam | Sampling


# What an outside model makes of the training text before the first model reads it: choices alone, no torch.
#
# Rule: only training documents are touched; held-out and calibration documents stay as they were written.


class ExternalModel(Settings):
    """A folder or hub id of a causal language model with its tokenizer, which need not be the trained model's."""

    path: InputPath
    revision: str | None = None


class ExternalEdit(Settings):
    """The training documents as `data.prior` has edited them (ToEdit, arXiv 2412.14689).

    `rule` and `sampler` are those of `tailkeep edit`. With `control: random` as many tokens as the rule flags are
    resampled by the same sampler, but random ones.
    """

    rule: Rule = Field(default_factory=ToEdit)
    sampler: Sampler = Sampler()
    control: Literal["random"] | None = None

    @model_validator(mode="after")
    def _can_change_something(self) -> Self:
        if self.control is None:
            check_has_effect(self.rule, self.sampler)
        elif isinstance(self.rule, Random):
            raise ValueError("control has no effect beside the rule random, whose tokens are any; leave it out")
        elif self.deletes:
            raise ValueError("control: random resamples tokens and deletes none. Give it a rule that does not delete")
        return self

    @property
    def deletes(self) -> bool:
        """Whether the rule takes tokens out."""
        match self.rule:
            case ToEdit():
                return self.rule.delete_below is not None
            case Low():
                return self.rule.action == "delete"
        return False


class ExternalText(Settings):
    """Text of `data.prior` in the place of the training documents: fully synthetic, of the same size.

    Each document begins with the first `prompt_tokens` of the real one and has as many tokens of the prior's, whatever
    end the prior would put to it; one longer than the model's positions is written in pieces, each begun so.
    """

    prompt_tokens: Annotated[int, Field(ge=0)] = 8
    decoder: Annotated[FixedDecoder, Field(discriminator="name")] = Sampling(name="sample")
    batch: Annotated[int, Field(ge=1)] = 64


def _is_a_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,30}", name):
        raise ValueError(f"{name!r} is no name. Give a name of 1 to 30 of a-z, 0-9, _")
    return name


Name = Annotated[str, AfterValidator(_is_a_name)]
"""What a user calls a test or a source."""


class Downstream(Settings):
    """Tests by likelihood: `blimp`, a folder or zip of minimal pairs, and `choices`, multiple-choice files by name.

    `pairs` of each paradigm and `limit` items of each file are asked, drawn once by `seed`. `skip` says how many of a
    file's first items are never asked, because models train on them.
    """

    blimp: InputPath | None = None
    choices: dict[Name, InputPath] = Field(default_factory=dict)
    skip: dict[Name, Positive] = Field(default_factory=dict)
    pairs: Positive = 10
    limit: Positive = 200
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _tests_something(self) -> Self:
        if self.blimp is None and not self.choices:
            raise ValueError("names no test. Give blimp or choices, or leave data.downstream out")
        if "blimp" in self.choices:
            raise ValueError("'blimp' is the name of the minimal pairs. Call the file in choices something else")
        stray = sorted(self.skip.keys() - self.choices.keys())
        if stray:
            raise ValueError(f"skip has no effect on {stray[0]!r}, which is no file in choices. Leave it out")
        return self


def _questions_have_a_form(kr_test: Path | None, kr_form: Form | None) -> None:
    if kr_form is not None and kr_test is None:
        raise ValueError("kr_form has no effect without kr_test. Give data.kr_test, or set data.kr_form=null")


Calibration = Annotated[float, Field(gt=0, le=0.5)]
"""A share of the real documents, the last ones, that no arm trains on and no metric is measured on."""


class TextCorpus(Settings):
    """A text file as real data.

    No model trains on the documents of `held_out_path`, of which the first `held_out_limit` are read, or, without it,
    on the last share `held_out` of the file's (.1 if not given). Text is cut at `separator` (blank lines if not given),
    a `.jsonl` file at its lines. `weights` is a file of weights that `tailkeep select` wrote of `path`: as many real
    documents as there are, each left out, taken or repeated in proportion to its weight, with the seed `weights_seed`
    (0 if not given); held-out ones stay. `kr_test` is a file of questions, asked in the form `kr_form` (`plain`, as
    they are written, if not given).

    A line of `.jsonl` has its text in `text_field`. With a `prompt_field` it is a record of instruction: the prompt
    stands before the text, on a line of its own, and only the text is a target, in training and in what is measured.

    `external_edit` and `external_text` put text of the outside model `prior` in the training documents' place.
    """

    name: Literal["text"]
    path: InputPath
    separator: str | None = None
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    held_out_path: InputPath | None = None
    held_out_limit: Positive | None = None
    limit: Positive | None = None
    text_field: str | None = None
    prompt_field: str | None = None
    weights: InputPath | None = None
    weights_seed: Annotated[int, Field(ge=0)] | None = None
    kr_test: InputPath | None = None
    kr_form: Form | None = None
    downstream: Downstream | None = None
    calibration: Calibration | None = None
    prior: ExternalModel | None = None
    external_edit: ExternalEdit | None = None
    external_text: ExternalText | None = None

    @property
    def outside(self) -> ExternalEdit | ExternalText | None:
        """What the prior makes of the training documents, if anything."""
        return self.external_edit or self.external_text

    @model_validator(mode="after")
    def _one_outside_text(self) -> Self:
        if self.external_edit is not None and self.external_text is not None:
            raise ValueError("external_edit and external_text each replace the training text. Set one of them to null")
        if self.outside is not None and self.prior is None:
            raise ValueError("external_edit and external_text need an outside model. Set data.prior.path")
        return self

    @model_validator(mode="after")
    def _fields_of_lines(self) -> Self:
        named = [key for key in ("text_field", "prompt_field") if getattr(self, key) is not None]
        if named and self.path.suffix != ".jsonl":
            raise ValueError(f"{named[0]} has no effect on text that is no .jsonl. Set data.{named[0]}=null")
        return self

    @model_validator(mode="after")
    def _asks_in_a_form(self) -> Self:
        _questions_have_a_form(self.kr_test, self.kr_form)
        return self

    @model_validator(mode="after")
    def _held_out_once(self) -> Self:
        if self.held_out_limit is not None and self.held_out_path is None:
            raise ValueError(
                "held_out_limit has no effect without held_out_path. Give data.held_out_path, or set "
                "data.held_out_limit=null"
            )
        if self.held_out is not None and self.held_out_path is not None:
            raise ValueError("held_out has no effect beside held_out_path. Set data.held_out=null")
        return self

    @model_validator(mode="after")
    def _draws_by_weight(self) -> Self:
        if self.weights_seed is not None and self.weights is None:
            raise ValueError("weights_seed has no effect without weights. Set data.weights_seed=null")
        return self

    @model_validator(mode="after")
    def _separates_text(self) -> Self:
        paths = [path for path in (self.path, self.held_out_path) if path is not None]
        if self.separator is not None and all(path.suffix == ".jsonl" for path in paths):
            raise ValueError("separator has no effect on .jsonl, one document a line. Set data.separator=null")
        return self


class TextSource(Settings):
    """Text as in the corpus `text`: the first `limit` documents of `path`, cut at `separator`."""

    form: Literal["text"]
    path: InputPath
    separator: str | None = None
    limit: Positive | None = None

    @model_validator(mode="after")
    def _separates_text(self) -> Self:
        if self.separator is not None and self.path.suffix == ".jsonl":
            raise ValueError("separator has no effect on .jsonl, one document a line. Set it to null")
        return self


class AnsweredSource(Settings):
    """The first `limit` items of a file of questions, each with its right answer; see `data.read_answered`."""

    form: Literal["answered"]
    path: InputPath
    limit: Positive | None = None


class InterleavedCorpus(Settings):
    """Several sources as one text: `chunks` times an equal part of the first, then of the second, and so on.

    The last share `held_out` of each source is not trained on; held-out documents stand source by source. The questions
    of `kr_test` are about the first source. Interleaved as in ForTIFAI's Imagination-of-Web (arXiv 2509.08972).
    """

    name: Literal["interleaved"]
    sources: dict[Name, Annotated[TextSource | AnsweredSource, Field(discriminator="form")]] = Field(min_length=2)
    chunks: Positive = 6
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    kr_test: InputPath | None = None
    kr_form: Form | None = None
    downstream: Downstream | None = None

    @model_validator(mode="after")
    def _asks_in_a_form(self) -> Self:
        _questions_have_a_form(self.kr_test, self.kr_form)
        return self


class WorldCorpus(WorldConfig):
    """The embedded world of short biographies, whose truth is known."""

    name: Literal["world"]
    question_rounds: Positive = 1
    downstream: Downstream | None = None
    calibration: Calibration | None = None


AnyCorpus = Annotated[TextCorpus | InterleavedCorpus | WorldCorpus, Field(discriminator="name")]
