"""The configuration of an audit, and conditions on its figures, such as `share > 0.05`, for continuous integration.

    layout: {text_fields: [text]}
    sample: {documents: 1000, max_words: 256}
    prior: {path: some/folder}

Rules: every key that can change a figure is in the fingerprint; `on_error` and `memory_mb` are not. A metric with an
interval meets a condition only if its whole interval does; a metric without a value is an error.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tailkeep.config import Settings, load_tree, validate
from tailkeep.data.corpus import JobConfig, OnError
from tailkeep.errors import ConfigError, InputError
from tailkeep.optional import require


def validate_prior(tree: Mapping[str, Any]) -> Any:
    """The `Prior` of the mapping `tree`. It needs transformers, so an audit without a prior never calls this.

    Raises:
        ConfigError: `tree` has wrong keys.
    """
    require("transformers", extra="hf")
    from tailkeep.scoring import Prior

    if not tree.get("path"):
        raise ConfigError("the key 'prior.path' is missing. Give --prior PATH, or prior: {path: ...} in the file.")
    return validate(Prior, dict(tree), source="prior")


MAX_TESTS = 32
"""An upper bound on the number of statistics of a comparison."""


class SampleConfig(Settings):
    """The documents of each corpus that are tested and shown: those with the smallest hashes of file and row.

    Attributes:
        documents: the number of documents per corpus.
        min_words: documents with fewer words are left out of the tests.
        max_words: the tests use so many words of a document at most.
    """

    documents: Annotated[int, Field(ge=20)] = 1000
    min_words: Annotated[int, Field(ge=4)] = 8
    max_words: Annotated[int, Field(ge=8, le=2000)] = 256

    @model_validator(mode="after")
    def _has_range(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words must be <= max_words={self.max_words}, got {self.min_words}")
        return self


class PermutationTestConfig(Settings):
    """The permutation tests: the number of `permutations`, and the significance `level` for all tests together."""

    permutations: Annotated[int, Field(ge=99)] = 999
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _can_flag(self) -> Self:
        # The smallest p-value, corrected for all tests, must be able to pass.
        if MAX_TESTS / (self.permutations + 1) > self.level:
            least = math.ceil(MAX_TESTS / self.level) - 1
            raise ValueError(
                f"permutations must be >= {least} at level={self.level}, got {self.permutations}: no p-value could "
                f"pass the correction for {MAX_TESTS} tests"
            )
        return self


class ShareConfig(Settings):
    """The share of documents like those of the synthetic reference.

    Attributes:
        documents: the number of documents per side: those with the smallest hashes of file and row.
        level: the level of its interval.
        resamples: resampled corpora per share of the grid that the interval inverts.
        transfer_level: a share is refused if a test of the references rejects at this level, all tests together.
        by: the field that names the source of a document, such as `source` or `url`, of which the host counts; or
            `file`. Every source then has its own share.
    """

    documents: Annotated[int, Field(ge=100, le=100_000)] = 5000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    resamples: Annotated[int, Field(ge=100)] = 400
    transfer_level: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    by: Annotated[str, Field(min_length=1)] | None = None


class NearDuplicateConfig(Settings):
    """MinHash (Broder 1997) of n-grams of `shingle` words, in `bands` bands of `rows` values.

    Two documents with Jaccard similarity J share a band with probability 1 - (1 - J^rows)^bands: with the defaults
    0.02 at J = 0.5, 0.5 at 0.71 and 0.98 at 0.8.
    """

    shingle: Annotated[int, Field(ge=1)] = 5
    bands: Annotated[int, Field(ge=1)] = 14
    rows: Annotated[int, Field(ge=1)] = 9


class MixingConfig(Settings):
    """The amounts of real and synthetic data in one unit, such as tokens, for the mixing advice.

    Attributes:
        real: the amount of real data there is.
        synthetic: the amount of synthetic data there is.
    """

    real: Annotated[float, Field(ge=1e-100, le=1e100)]
    synthetic: Annotated[float, Field(ge=1e-100, le=1e100)]


class AuditConfig(JobConfig):
    """An audit of a corpus.

    Attributes:
        prior: as in an edit, such as {path: FOLDER}. Every document is then scored, which needs torch.
        share: how the share of synthetic documents is estimated, which needs a synthetic reference.
        near_duplicates: {} for the defaults; off by default, since it takes several times as long as the rest.
        compression: also measure the compression ratio of blocks of consecutive documents; off by default.
        num_keywords: the number of rows per list of frequent or over-represented n-grams.
        seed: of the samples of documents, the permutations and resamples.
        num_threads: CPU threads of the prior, per worker.
        row_groups: split a parquet file into shards of so many row groups, for more workers than files.
        memory_mb: memory for counts per worker, in MB. Counts beyond it are sorted on disk.
    """

    not_fingerprinted = frozenset({"on_error", "memory_mb"})

    sample: SampleConfig = SampleConfig()
    testing: PermutationTestConfig = PermutationTestConfig()
    share: ShareConfig = ShareConfig()
    near_duplicates: NearDuplicateConfig | None = None
    compression: Literal["zlib", "zstd"] | None = None
    prior: dict[str, Any] | None = None
    mixing: MixingConfig | None = None
    num_keywords: Annotated[int, Field(ge=1, le=1000)] = 50
    seed: Annotated[int, Field(ge=0)] = 0
    num_threads: Annotated[int, Field(ge=1)] = 1
    row_groups: Annotated[int, Field(ge=1)] | None = None
    on_error: OnError = "stop"
    memory_mb: Annotated[int, Field(ge=16)] = 1024

    @model_validator(mode="after")
    def _reads_text(self) -> Self:
        if self.layout.token_field:
            raise ValueError(
                "layout.token_field has no effect in an audit, which counts words of text. Give the corpus as text"
            )
        if self.layout.prompt_fields:
            raise ValueError(
                "layout.prompt_fields have no effect in an audit, which counts text_fields. Remove the key"
            )
        return self


def load(
    source: Path | Mapping[str, Any] | None = None,
    *,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> AuditConfig:
    """Load the configuration from a YAML file or a mapping, with overrides and options on top.

    Args:
        source: the file or the mapping; the defaults if None.
        overrides: `key.subkey=value`, such as `sample.documents=500`.
        options: a tree with precedence over both, such as the options of the command line.

    Raises:
        ConfigError: a key is unknown or a value invalid.
        InputError: the file cannot be read.
    """
    tree, name = load_tree(source, overrides=overrides, options=options)
    config = validate(AuditConfig, tree, source=name)
    if config.prior is not None:
        validate_prior(config.prior)
    return config


_FORM = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|>|<)\s*(\S+)\s*")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True)
class MetricValue:
    """The value of a metric with its interval, of no width for one that is counted."""

    value: float
    low: float
    high: float


def _share(summary: Mapping[str, Any]) -> MetricValue:
    share = summary.get("share")
    if share is None:
        raise ConfigError("--fail-if share needs --reference and --synthetic. Give both references.")
    if share["share"] is None:
        raise InputError(f"--fail-if share: no share is named: {share['refusal']}.")
    return MetricValue(share["share"], share["low"], share["high"])


def flagged_names(comparison: Mapping[str, Any]) -> list[str]:
    """The names of the statistics and of the features of language that differ significantly in a summary."""
    return [test["name"] for family in ("tests", "language") for test in comparison[family] if test["flagged"]]


def _flagged(summary: Mapping[str, Any]) -> MetricValue:
    comparison = summary.get("comparison")
    if comparison is None:
        raise InputError(
            "--fail-if flagged: nothing was tested. Give a --reference and enough documents of both sides."
        )
    number = float(len(flagged_names(comparison)))
    return MetricValue(number, number, number)


def _figure(name: str, option: str) -> Callable[[Mapping[str, Any]], MetricValue]:
    def read(summary: Mapping[str, Any]) -> MetricValue:
        value = summary["input"].get(name)
        if value is None:
            raise InputError(f"--fail-if {name}: the audit has no such figure. Give {option}.")
        return MetricValue(value, value, value)

    return read


def _templated(summary: Mapping[str, Any]) -> MetricValue:
    share = _figure("templated_share", "documents")(summary).value
    return MetricValue(share, *summary["input"]["templated_interval"])


METRICS: Mapping[str, Callable[[Mapping[str, Any]], MetricValue]] = {
    "share": _share,
    "flagged": _flagged,
    "exact_duplicates_share": _figure("exact_duplicates_share", "documents"),
    "near_duplicates_share": _figure("near_duplicates_share", "--near-duplicates"),
    "templated_share": _templated,
    "repeated_4grams_share": _figure("repeated_4grams_share", "documents of four words and more"),
}
"""What a condition can be about, and how it is read from a summary."""

_NEEDS = {
    "share": ("--reference", "--synthetic"),
    "flagged": ("--reference",),
    "near_duplicates_share": ("--near-duplicates",),
}
"""The options without which an audit has no such metric."""


@dataclass(frozen=True)
class Condition:
    """`metric` compared with `number`, as the user wrote it in `text`."""

    text: str
    metric: str
    comparison: str
    number: float

    @property
    def needs(self) -> tuple[str, ...]:
        """The options without which an audit cannot judge it."""
        return _NEEDS.get(self.metric, ())

    def is_met(self, summary: Mapping[str, Any]) -> bool:
        """Whether the metric's whole interval meets the condition: its lower end above, its upper end below.

        Raises:
            InputError: the metric has no value, such as a share that is refused.
            ConfigError: the audit has no such metric.
        """
        measured = METRICS[self.metric](summary)
        bound = measured.low if self.comparison.startswith(">") else measured.high
        return _OPERATORS[self.comparison](bound, self.number)


def parse_condition(text: str) -> Condition:
    """The condition that `text` says, METRIC (> < >= <=) NUMBER.

    Raises:
        ConfigError: it says none.
    """
    match = _FORM.fullmatch(text)
    known = ", ".join(METRICS)
    if not match:
        raise ConfigError(f"--fail-if {text!r} is no condition. Write METRIC > NUMBER (or <, >=, <=); METRIC: {known}.")
    metric, comparison, number = match.groups()
    if metric not in METRICS:
        raise ConfigError(f"--fail-if {text!r}: unknown metric {metric!r}. Use one of {known}.")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise ConfigError(f"--fail-if {text!r}: {number!r} is no finite number. Write one, such as 0.05.")
    return Condition(text.strip(), metric, comparison, bound)
