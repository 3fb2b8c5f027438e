"""The run directory of an audit, read, and its figures: the forest of its tests, and corpus and reference in one plot.

Rules: an unfinished audit has neither summary nor tables. The audited corpus is the baseline and the reference real
data in every figure. Figures show shares, not counts, so that corpora of different sizes can be compared.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from tailkeep.errors import InputError
from tailkeep.report import formatting
from tailkeep.report.charts import Axis, Histogram, Series, histogram_chart, line_chart
from tailkeep.report.forest import ForestBlock, ForestRow, forest_rows
from tailkeep.report.phrases import BASELINE, REAL_DATA
from tailkeep.report.svg import Figure
from tailkeep.runs import RunDirectory, RunRecord, read_sealed

Row = Mapping[str, str]
SIDES = ("input", "reference")


@dataclass(frozen=True)
class AuditRun:
    """The audit run at `path`. `tables` are rows of strings by name; `summary` is empty until the audit is finished."""

    path: Path
    record: RunRecord
    summary: Mapping[str, Any]
    tables: Mapping[str, Sequence[Row]]
    examples: Sequence[Mapping[str, Any]]
    telling: Sequence[Mapping[str, Any]] = ()
    source_documents: Sequence[Mapping[str, Any]] = ()
    templates: Sequence[Mapping[str, Any]] = ()

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.resolve().name

    @property
    def sides(self) -> list[str]:
        """`input`, and `reference` if there is a reference."""
        return [side for side in SIDES if side in self.summary]

    def rows(self, table: str, **values: str) -> list[Row]:
        """The rows of `table` that hold `values`, by column."""
        return [row for row in self.tables.get(table, ()) if all(row[key] == value for key, value in values.items())]

    def columns(self, table: str, *names: str, **values: str) -> list[list[float]]:
        """The columns `names` of these rows, as numbers.

        Raises:
            InputError: a cell is no number.
        """
        try:
            return [[float(row[name]) for row in self.rows(table, **values)] for name in names]
        except (KeyError, ValueError) as error:
            raise InputError(f"{self.path}/tables/{table}.csv: {error}. Run the audit again.") from None


def read_audit_run(path: Path | str) -> AuditRun:
    """Read the audit at `path`.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
    """
    directory = RunDirectory.open(Path(path))
    summary = directory.path / "summary.json"
    if not summary.is_file():
        return AuditRun(directory.path, directory.record, {}, {}, ())
    tree = read_sealed(summary, advice=_ADVICE)
    texts = {name: _read(directory.path / name, digest) for name, digest in sorted(tree.pop("files", {}).items())}
    tables = {
        Path(name).stem: list(csv.DictReader(text.split("\n"))) for name, text in texts.items() if name.endswith(".csv")
    }
    names = ("examples", "telling", "source_documents", "templates")
    documents = [_table_lines(texts.get(f"tables/{name}.jsonl", "")) for name in names]
    return AuditRun(directory.path, directory.record, tree, tables, *documents)


_ADVICE = "Run the same audit again, which writes it anew."


def _table_lines(text: str) -> list[dict[str, Any]]:
    # Only a line feed ends a record: str.splitlines would cut at U+2028 and others, which JSON leaves as they are.
    return [json.loads(line) for line in text.split("\n") if line]


def _read(path: Path, digest: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. {_ADVICE}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path} is damaged: its sha256 is not the one in summary.json. {_ADVICE}")
    return content.decode("utf-8")


LABELS = {"input": "this corpus", "reference": "the reference"}
ROLES = {"input": BASELINE, "reference": REAL_DATA}
_MAX_ROWS = 40
_REACH = 15.0
_MAX_CURVE = 200
ZERO_LEVEL = 0.05
_REACHES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_MAX_SOURCES = 20


def standardised(row: Row) -> float:
    """A statistic's difference in standard deviations of its permutations; NaN where these do not vary."""
    low, high = float(row["null_low"]), float(row["null_high"])
    deviation = (high - low) / (2 * stats.norm.ppf(0.975))
    return (float(row["difference"]) - (low + high) / 2) / deviation if deviation > 0 else math.nan


def plot_tests(run: AuditRun) -> Figure | None:
    """The forest: one row per statistic, its standardised difference from the reference with a corrected CI."""
    rows = [row for row in run.rows("tests") if math.isfinite(standardised(row))]
    if not rows:
        return None
    half = float(stats.norm.ppf(1 - 0.025 / len(rows)))
    rows = sorted(rows, key=lambda row: -abs(standardised(row)))[:_MAX_ROWS]
    flagged = [row["name"] for row in rows if row["flagged"] == "1"]

    def forest_row(row: Row) -> ForestRow:
        z = standardised(row)
        number = f"{z:+.1f}".replace("-", "\N{MINUS SIGN}") if round(z, 1) else "0.0"
        p = formatting.p_value(float(row["adjusted_p"]))
        name = row["name"].replace("pairs of words", "pairs").replace("reference", "ref.")
        return ForestRow(name, BASELINE, z, z - half, z + half, row["flagged"] == "1", number, f"p {p}")

    # A few differences are so large that the others would be points on their scale.
    reach = min(_REACH, max(abs(standardised(row)) for row in rows) + half)
    note = (
        "Each difference in standard deviations of its permutations, the largest first. Bar: 95 % CI, corrected for "
        f"{len(rows)} tests; filled: significant by permutations of whole documents after Holm’s correction."
    )
    block = ForestBlock("", "", [forest_row(row) for row in rows], reach=reach)
    return forest_rows(
        "tests", "Difference from the reference", [block], note=note,
        finding=f"{len(flagged)} of {len(rows)} statistics differ significantly: {', '.join(flagged) or 'none'}.",
        longest=27, directed=False, heading="difference, corrected p",
    )  # fmt: skip


def plot_share(run: AuditRun) -> Figure | None:
    """The share of documents like the synthetic reference with its CI; None if there is none, or it is refused."""
    share = run.summary.get("share") or {"share": None}
    if share["share"] is None:
        return None
    percent = [f"{100 * share[key]:.1f}" for key in ("share", "low", "high")]
    figures = share["share"], share["low"], share["high"]
    rows = [_share_row("all documents", figures, significant=share["zero_p"] <= ZERO_LEVEL)]
    for source in [row for row in run.rows("sources") if row["share"]][:_MAX_SOURCES]:
        values = (float(source["share"]), float(source["low"]), float(source["high"]))
        rows.append(_share_row(source["source"], values, significant=source["flagged"] == "1"))
    note = (
        f"Maximum likelihood of a mixture of both references, from {share['documents']:,} documents of "
        f"{share['words']} words. Bar: {100 * share['level']:.0f} % CI; filled: more than 0, p ≤ {ZERO_LEVEL}, of "
        "sources after Benjamini and Hochberg’s correction."
    )
    reach = next(reach for reach in _REACHES if reach >= min(1.0, max(row.high for row in rows)))
    block = ForestBlock("", "", rows, reach=reach, one_sided=True, ends=("0", f"{100 * reach:g} %"))
    return forest_rows(
        "share", "Documents like the synthetic reference", [block], note=note,
        finding=f"{percent[0]} % of the documents ({percent[1]} to {percent[2]} %).", longest=20, directed=False,
        heading=f"share ({100 * share['level']:.0f} % CI)",
    )  # fmt: skip


def _share_row(name: str, figures: tuple[float, float, float], *, significant: bool) -> ForestRow:
    share, low, high = (f"{100 * value:.1f}" for value in figures)
    return ForestRow(name, BASELINE, *figures, significant, f"{share} %", f"{low} to {high}")


def audit_figures(run: AuditRun) -> Iterator[Figure]:
    """The figures of all tables that the run has."""
    if run.rows("probabilities"):
        yield _histogram(
            run, "probabilities", ("from_p", "to_p", "tokens"), "Probability of tokens",
            "probability", "% of tokens",
            "Tokens by their probability under the prior. Human text gives a U shape: many tokens with a low and "
            "many with a high probability. Without the left peak the tail is missing (ToEdit, figure 4).",
        )  # fmt: skip
        yield _histogram(
            run, "surprise", ("from_nats", "to_nats", "documents"), "Documents by surprise",
            "mean −ln p of a document, nats", "% of documents",
            "Its exponential is the document's perplexity. Synthetic text lies in a narrow range at the left.",
        )  # fmt: skip
    if run.rows("coverage"):
        yield _coverage(run)
    yield _lines(
        run, "buckets", ("share_of_buckets", "share_of_ngrams"), "Pairs of words, fullest buckets first",
        "share of 10,000 buckets", "% of pairs",
        "Pairs of words hashed into 10,000 buckets. A curve that rises sooner is more concentrated. A small corpus "
        "fills fewer buckets, so compare corpora of one size.", values={"n": "2"}, log=True,
    )  # fmt: skip
    yield _lines(
        run, "lorenz", ("share_of_types", "share_of_words"), "Words, rare ones first", "share of different words",
        "% of all words", "The Lorenz curve of words: the lower, the larger the share of a few words in the text.",
    )  # fmt: skip
    yield _ranks(run)
    yield _histogram(
        run, "lengths", ("from_words", "to_words", "documents"), "Length of documents", "words + 1", "% of documents",
        "Bins of a quarter of an octave. One is added to each length: a logarithmic axis has no 0.", log=True,
    )  # fmt: skip
    yield _histogram(
        run, "repetition", ("from_share", "to_share", "documents"), "Repetition within documents",
        "share of runs of four words that occurred before", "% of documents", "Long documents repeat more.",
    )  # fmt: skip
    if run.rows("importance"):
        yield _histogram(
            run, "importance", ("from_weight", "to_weight", "documents"), "Likeness to the reference",
            "ln p / q per n-gram", "% of documents",
            "DSIR's importance weight (arXiv 2302.03169) of documents of both samples: above 0 a document is more like "
            "the reference. Where both sides answer the same prompts, each document is like its counterpart.",
        )  # fmt: skip


def _histogram(
    run: AuditRun,
    table: str,
    names: tuple[str, str, str],
    title: str,
    x: str,
    y: str,
    caption: str,
    *,
    log: bool = False,
) -> Figure:
    histograms = []
    for side in run.sides:
        low, high, counts = run.columns(table, *names, side=side)
        total = sum(counts)
        if total:
            # A logarithmic axis cannot show a length of 0.
            edges = [edge + 1 if log else edge for edge in (*low, high[-1])]
            histograms.append(Histogram(LABELS[side], ROLES[side], edges, [100 * count / total for count in counts]))
    finding = f"{title}: histogram of {_named(run)}."
    if not histograms:
        return _nothing(table, title, finding)
    return histogram_chart(table, title, histograms, unit=y, x_label=x, note=caption, finding=finding, x_log=log)


def _nothing(name: str, title: str, finding: str) -> Figure:
    return Figure(name, title, "Nothing to show: no document has it.", finding, 1, "")


def _lines(
    run: AuditRun,
    table: str,
    names: tuple[str, str],
    title: str,
    x: str,
    y: str,
    caption: str,
    *,
    values: dict[str, str] | None = None,
    log: bool = False,
) -> Figure:
    series = []
    for side in run.sides:
        across, up = run.columns(table, *names, side=side, **(values or {}))
        points = [(a, 100 * b) for a, b in zip(across, up, strict=True) if a > 0 or not log]
        if points:
            series.append(_series(side, points))
    axis = Axis(y, floor=0, ceiling=100)
    finding = f"{title}: curve of {_named(run)}."
    if not series:
        return _nothing(table, title, finding)
    return line_chart(
        table, title, series, axis, note=caption, finding=finding, height=280, x_label=x, x_log=log, plain=True
    )


def _series(side: str, points: list[tuple[float, float]]) -> Series:
    points = points[:: max(1, len(points) // _MAX_CURVE)]
    nothing = [math.nan] * len(points)
    return Series(LABELS[side], ROLES[side], [a for a, _ in points], [b for _, b in points], nothing, nothing, "")


def _ranks(run: AuditRun) -> Figure:
    series = []
    for side in run.sides:
        rank, count = run.columns("ranks", "rank", "count", side=side)
        words = run.summary[side]["words"] or 1
        if points := [(a, 1e6 * b / words) for a, b in zip(rank, count, strict=True) if b > 0]:
            series.append(_series(side, points))
    axis = Axis("occurrences per million words", log=True)
    title, finding = "Zipf’s law", f"Frequency by rank of {_named(run)}."
    if not series:
        return _nothing("ranks", title, finding)
    return line_chart(
        "ranks", title, series, axis, note="A steeper end is a thinner tail.", finding=finding, height=280,
        x_label="rank", x_log=True, plain=True,
    )  # fmt: skip


def _coverage(run: AuditRun) -> Figure:
    first, covered, rest = run.columns("coverage", "first", "covered", "reference_covered")
    sides = (("input", covered), ("reference", rest))
    series = [_series(side, [(a, 100 * b) for a, b in zip(first, column, strict=True)]) for side, column in sides]
    note = (
        "Words by the number of documents of one part of the reference that contain them, and the share of them that "
        "occurs in an equal amount of text: of this corpus, and of the rest of the reference."
    )
    return line_chart(
        "coverage", "Words of the reference that occur", series, Axis("% of words", floor=0, ceiling=100), note=note,
        finding=f"Coverage by frequency band: {covered[0]:.0%} of the rarest words, {rest[0]:.0%} in the reference.",
        height=280, x_label="documents of the reference", x_log=True,
    )  # fmt: skip


def _named(run: AuditRun) -> str:
    return " and ".join(LABELS[side] for side in run.sides)
