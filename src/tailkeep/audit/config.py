"""What a user chooses of an audit.

    layout: {text_fields: [text]}
    sample: {documents: 1000, max_words: 256}
    prior: {path: some/folder}

Rule: what can change a figure is in the fingerprint; how much memory is used, and what a bad document does, is not.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import Settings, dump_tree, merge, parse_assignments, read_yaml, validate
from tailkeep.data.corpus import Layout, OnError
from tailkeep.errors import ConfigError
from tailkeep.optional import require

# The choice of a prior, checked where torch is at hand. Rule: an audit without one never comes here.


def validate_prior(tree: Mapping[str, Any]) -> Any:
    """The `Prior` that `tree` describes.

    Raises:
        ConfigError: its keys are wrong.
    """
    require("transformers", extra="hf")
    from tailkeep.scoring import Prior

    if not tree.get("path"):
        raise ConfigError("the key 'prior.path' is missing. Give --prior PATH, or prior: {path: ...} in the file.")
    return validate(Prior, dict(tree), source="prior")


FREE = ("on_error", "memory_mb")
MOST_TESTS = 32
"""No comparison has more statistics."""


class SampleConfig(Settings):
    """The documents that stand for a corpus in tests and to be read: those with the smallest hash of their place.

    Attributes:
        documents: how many are kept of each corpus.
        min_words: documents with fewer words are left out of the tests.
        max_words: a test reads so many words of a document at most.
    """

    documents: Annotated[int, Field(ge=20)] = 1000
    min_words: Annotated[int, Field(ge=4)] = 8
    max_words: Annotated[int, Field(ge=8, le=2000)] = 256

    @model_validator(mode="after")
    def _has_range(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words must be <= max_words={self.max_words}, got {self.min_words}")
        return self


class Testing(Settings):
    """How two corpora are compared: `permutations` of documents between them, the `level` for all tests together."""

    permutations: Annotated[int, Field(ge=99)] = 999
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _can_flag(self) -> Self:
        # The smallest p-value, corrected for all tests, must be able to pass.
        if MOST_TESTS / (self.permutations + 1) > self.level:
            least = math.ceil(MOST_TESTS / self.level) - 1
            raise ValueError(
                f"{self.permutations} permutations flag nothing at the level {self.level} among {MOST_TESTS} tests. "
                f"Use {least} or more"
            )
        return self


class NearDuplicateConfig(Settings):
    """MinHash (Broder 1997) of runs of `shingle` words, in `bands` bands of `rows` values.

    Two documents that share a part J of their runs meet in some band with probability 1 - (1 - J^rows)^bands: with the
    defaults .5 at J = .71, .98 at .8, .02 at .5.
    """

    shingle: Annotated[int, Field(ge=1)] = 5
    bands: Annotated[int, Field(ge=1)] = 14
    rows: Annotated[int, Field(ge=1)] = 9


class Mixing(Settings):
    """How much real and synthetic data there is, in any one unit such as tokens, for the mixing planner."""

    real: Annotated[float, Field(gt=0)]
    synthetic: Annotated[float, Field(gt=0)]


class AuditConfig(Settings):
    """An audit of a corpus.

    Attributes:
        prior: as of an edit, such as {path: FOLDER}; with one, every document is scored, which needs torch.
        near_duplicates: off unless given, since it takes several times as long as all else; {} for the defaults.
        compression: of blocks of consecutive documents; off unless given.
        row_groups: cut a parquet file into shards of so many row groups, for more workers than files.
        memory_mb: megabytes that a worker may hold counts in; beyond that they wait on the disk.
        num_threads: of each worker, for the prior.
    """

    layout: Layout = Layout()
    sample: SampleConfig = SampleConfig()
    testing: Testing = Testing()
    near_duplicates: NearDuplicateConfig | None = None
    compression: Literal["zlib", "zstd"] | None = None
    prior: dict[str, Any] | None = None
    mixing: Mixing | None = None
    num_keywords: Annotated[int, Field(ge=1, le=1000)] = 50
    seed: Annotated[int, Field(ge=0)] = 0
    num_threads: Annotated[int, Field(ge=1)] = 1
    row_groups: Annotated[int, Field(ge=1)] | None = None
    on_error: OnError = "stop"
    memory_mb: Annotated[int, Field(ge=16)] = 1024

    @model_validator(mode="after")
    def _reads_text(self) -> Self:
        if self.layout.token_field:
            raise ValueError("layout.token_field: an audit counts words of text. Give the corpus as text")
        if self.layout.prompt_fields:
            raise ValueError(
                "layout.prompt_fields do nothing in an audit: only text_fields are counted. Leave them out"
            )
        return self

    def deciding(self) -> dict[str, Any]:
        """What of it can change a figure, as plain values; the prior stands in by its identity elsewhere."""
        tree = self.model_dump(mode="json")
        return {key: value for key, value in tree.items() if key not in {"prior", *FREE}}


def load(
    source: Path | Mapping[str, Any] | None = None,
    *,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> AuditConfig:
    """The configuration in a YAML file or a mapping, with overrides and options on top.

    Args:
        source: the file or the mapping; nothing but defaults if not given.
        overrides: `key.subkey=value`, such as `sample.documents=500`.
        options: a tree that beats both, such as that of the command's own options.

    Raises:
        ConfigError: unknown keys, or values that cannot be used.
        InputError: the file cannot be read.
    """
    tree = read_yaml(source) if isinstance(source, Path) else source or {}
    name = str(source) if isinstance(source, Path) else "config"
    chosen = validate(AuditConfig, merge(merge(tree, parse_assignments(overrides)), options or {}), source=name)
    if chosen.prior is not None:
        validate_prior(chosen.prior)
    return chosen


def dump(config: AuditConfig) -> str:
    """`config` as YAML that `load` reads back."""
    tree = config.model_dump(mode="json")
    if config.layout.chat:
        # Beside a chat they have no effect and would be refused.
        tree["layout"] = {key: tree["layout"][key] for key in tree["layout"] if key not in _FIELDS}
    return dump_tree(tree)


_FIELDS = ("text_fields", "prompt_fields")
