"""The figures of an audit: both corpora over each other.

Rule: the audited corpus has the first pen, the reference the second, in every figure; shares, never counts, so that
corpora of different size can lie over each other.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tailkeep.report.svg import HAIR, Drawing, LineStyle, Rendered, canvas, line_style, name_axis, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from tailkeep.report.audit_run import AuditRun

LABELS = {"input": "this corpus", "reference": "the reference"}
# Of an axis that spans less, powers of ten are too few ticks.
_NARROW = 100
_PENS = {"input": line_style(0), "reference": line_style(1)}


def audit_figures(reading: AuditRun) -> list[Rendered]:
    """Every figure there are numbers for."""
    return [render(drawing) for drawing in _drawings(reading)]


def _drawings(reading: AuditRun) -> Iterator[Drawing]:
    if reading.rows("probabilities"):
        yield _histogram(
            reading, "probabilities", ("from_p", "to_p", "tokens"), "Probability of tokens",
            "probability", "% of tokens",
            "Tokens by their probability under the prior. Text that people wrote makes a U: many tokens that no model "
            "expects, many that any does. A missing left arm is a missing tail (ToEdit, figure 4).",
        )  # fmt: skip
        yield _histogram(
            reading, "surprise", ("from_nats", "to_nats", "documents"), "Documents by surprise",
            "mean −ln p of a document, nats", "% of documents",
            "Its exponential is the document's perplexity. Text of models lies in a narrow range at the left.",
        )  # fmt: skip
    if reading.rows("coverage"):
        yield Drawing(
            "coverage", "Words of the reference that occur", _COVERAGE, "Coverage by frequency band.",
            lambda: _coverage(reading),
        )  # fmt: skip
    yield _lines(
        reading, "buckets", ("share_of_buckets", "share_of_ngrams"), "Pairs of words, fullest buckets first",
        "share of 10,000 buckets", "% of pairs",
        "Pairs of words hashed into 10,000 buckets. A curve that rises sooner is more concentrated. A small corpus "
        "fills fewer buckets, so compare corpora of one size.", wanted={"n": "2"}, log=True,
    )  # fmt: skip
    yield _lines(
        reading, "lorenz", ("share_of_types", "share_of_words"), "Words, rare ones first", "share of different words",
        "% of all words", "The Lorenz curve of words: the lower, the more a few words make up the text.",
    )  # fmt: skip
    yield _ranks(reading)
    yield _histogram(
        reading, "lengths", ("from_words", "to_words", "documents"), "Length of documents", "words", "% of documents",
        "A quarter of an octave a step.", log=True,
    )  # fmt: skip
    yield _histogram(
        reading, "repetition", ("from_share", "to_share", "documents"), "Repetition within documents",
        "share of runs of four words that occurred before", "% of documents", "Long documents repeat more.",
    )  # fmt: skip
    if reading.rows("importance"):
        yield _histogram(
            reading, "importance", ("from_weight", "to_weight", "documents"), "Likeness to the reference",
            "ln p / q per n-gram", "% of documents",
            "DSIR's importance weight (arXiv 2302.03169) of documents of both samples: above 0 a document is more like "
            "the reference. Where both sides answer the same prompts, each document is like its counterpart.",
        )  # fmt: skip


_COVERAGE = (
    "Words by how many documents of a part of the reference they stand in, and the share of them that occurs in as "
    "much text: of this corpus, and of the rest of the reference."
)


def _histogram(
    reading: AuditRun,
    table: str,
    names: tuple[str, str, str],
    title: str,
    x: str,
    y: str,
    caption: str,
    *,
    log: bool = False,
) -> Drawing:
    def build() -> "Figure":
        figure, (panel,) = canvas(title)
        for side in reading.sides:
            low, high, counts = reading.columns(table, *names, side=side)
            total = sum(counts)
            if not total:
                continue
            edges = [*low, high[-1]]
            # A logarithmic axis has no room for a length of 0.
            edges = [edge + 1 for edge in edges] if log else edges
            panel.stairs([100 * count / total for count in counts], edges, **_style(side))
        if log:
            _log_axis(panel, "x")
        else:
            # Long numbers such as -0.0075 touch each other beyond that.
            panel.locator_params(axis="x", nbins=5)
        return _finished(figure, panel, reading, x, y)

    return Drawing(table, title, caption, f"{title}: histogram of {_named(reading)}.", build)


def _lines(
    reading: AuditRun,
    table: str,
    names: tuple[str, str],
    title: str,
    x: str,
    y: str,
    caption: str,
    *,
    wanted: dict[str, str] | None = None,
    log: bool = False,
) -> Drawing:
    def build() -> "Figure":
        figure, (panel,) = canvas(title)
        for side in reading.sides:
            across, up = reading.columns(table, *names, side=side, **(wanted or {}))
            panel.plot(across, [100 * value for value in up], **_style(side))
        if log:
            _log_axis(panel, "x")
        return _finished(figure, panel, reading, x, y)

    return Drawing(table, title, caption, f"{title}: curve of {_named(reading)}.", build)


def _ranks(reading: AuditRun) -> Drawing:
    def build() -> "Figure":
        figure, (panel,) = canvas("Zipf's law")
        for side in reading.sides:
            rank, count = reading.columns("ranks", "rank", "count", side=side)
            words = reading.summary[side]["words"] or 1
            panel.plot(rank, [1e6 * value / words for value in count], **_style(side))
        _log_axis(panel, "x")
        _log_axis(panel, "y")
        return _finished(figure, panel, reading, "rank", "occurrences in a million words")

    caption = "A steeper end is a thinner tail."
    return Drawing("ranks", "Zipf's law", caption, f"Frequency by rank of {_named(reading)}.", build)


def _coverage(reading: AuditRun) -> "Figure":
    figure, (panel,) = canvas("Words of the reference that occur")
    first, covered, reference = reading.columns("coverage", "first", "covered", "reference_covered")
    panel.plot(first, [100 * share for share in covered], marker="o", markersize=4, **_style("input"))
    panel.plot(first, [100 * share for share in reference], marker="s", markersize=4, **_style("reference"))
    _log_axis(panel, "x")
    panel.set_ylim(0, 103)
    return _finished(figure, panel, reading, "documents of the reference", "% of words")


def _style(side: str) -> dict[str, Any]:
    chosen: LineStyle = _PENS[side]
    return {"color": chosen.colour, "linestyle": chosen.dash, "linewidth": 1.5}


def _log_axis(panel: "Axes", which: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (panel.set_xscale if which == "x" else panel.set_yscale)("log")
    axis = panel.xaxis if which == "x" else panel.yaxis
    low, high = panel.get_xlim() if which == "x" else panel.get_ylim()
    if high < _NARROW * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _finished(figure: "Figure", panel: "Axes", reading: AuditRun, x: str, y: str) -> "Figure":
    panel.grid(axis="y", color=HAIR, linewidth=0.5)
    name_axis(panel, x=x, y=y)
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)
    lines = [(LABELS[side], _PENS[side].colour, 1.0) for side in reading.sides]
    if len(lines) > 1:
        # Above the axes, where no curve can be.
        for place, (text, colour, _) in enumerate(lines):
            panel.text(
                0.0 if place == 0 else 0.34, 1.03, ("— " if place == 0 else "-- ") + text, color=colour, fontsize=8.0,
                transform=panel.transAxes,
            )  # fmt: skip
    return figure


def _named(reading: AuditRun) -> str:
    return " and ".join(LABELS[side] for side in reading.sides)
