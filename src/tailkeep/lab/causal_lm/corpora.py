"""The choices of what a language model is studied on: a text file or the embedded world, and the tests beside it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import InputPath, Settings
from tailkeep.data import WorldConfig
from tailkeep.lab.causal_lm.outside import OutsideEdit, OutsideModel, OutsideText
from tailkeep.lab.study import Positive


class Downstream(Settings):
    """Tests by likelihood: `blimp`, a folder or zip of minimal pairs, and `choices`, multiple-choice files by name.

    `pairs` of each paradigm and `limit` items of each file are asked, drawn once by `seed`.
    """

    blimp: InputPath | None = None
    choices: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,30}$")], InputPath] = Field(default_factory=dict)
    pairs: Positive = 10
    limit: Positive = 200
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _tests_something(self) -> Self:
        if self.blimp is None and not self.choices:
            raise ValueError("names no test. Give blimp or choices, or leave data.downstream out")
        if "blimp" in self.choices:
            raise ValueError("'blimp' is the name of the minimal pairs. Call the file in choices something else")
        return self


Calibration = Annotated[float, Field(gt=0, le=0.5)]
"""A share of the real documents, the last ones, that no arm trains on and no metric is measured on."""


class TextCorpus(Settings):
    """A text file as real data.

    No model trains on the documents of `held_out_path` or, without it, on the last share `held_out` of the file's
    (.1 if not given). Text is cut at `separator` (blank lines if not given), a `.jsonl` file at its lines. `weights` is
    a file of weights that `tailkeep select` wrote of `path`: as many real documents as there are, each left out, taken
    or repeated in proportion to its weight, with the seed `weights_seed` (0 if not given); held-out ones stay.

    A line of `.jsonl` has its text in `text_field`. With a `prompt_field` it is a record of instruction: the prompt
    stands before the text, on a line of its own, and only the text is a target, in training and in what is measured.

    `edit` and `written` put text of the outside model `prior` in the training documents' place.
    """

    name: Literal["text"]
    path: InputPath
    separator: str | None = None
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    held_out_path: InputPath | None = None
    limit: Positive | None = None
    text_field: str | None = None
    prompt_field: str | None = None
    weights: InputPath | None = None
    weights_seed: Annotated[int, Field(ge=0)] | None = None
    kr_test: InputPath | None = None
    downstream: Downstream | None = None
    calibration: Calibration | None = None
    prior: OutsideModel | None = None
    edit: OutsideEdit | None = None
    written: OutsideText | None = None

    @property
    def outside(self) -> OutsideEdit | OutsideText | None:
        """What the prior makes of the training documents, if anything."""
        return self.edit or self.written

    @model_validator(mode="after")
    def _one_outside_text(self) -> Self:
        if self.edit is not None and self.written is not None:
            raise ValueError("edit and written each replace the training text. Set one of them to null")
        if self.outside is not None and self.prior is None:
            raise ValueError("edit and written need an outside model. Set data.prior.path")
        return self

    @model_validator(mode="after")
    def _fields_of_lines(self) -> Self:
        named = [key for key in ("text_field", "prompt_field") if getattr(self, key) is not None]
        if named and self.path.suffix != ".jsonl":
            raise ValueError(f"{named[0]} has no effect on text that is no .jsonl. Set data.{named[0]}=null")
        return self

    @model_validator(mode="after")
    def _held_out_once(self) -> Self:
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


class WorldCorpus(WorldConfig):
    """The embedded world of short biographies, whose truth is known."""

    name: Literal["world"]
    question_rounds: Positive = 1
    downstream: Downstream | None = None
    calibration: Calibration | None = None
