"""The figures of an audit: the audited corpus and its reference in one plot.

Rule: the audited corpus has the first line style and the reference the second in every figure. Figures show shares, not
counts, so that corpora of different sizes can be compared.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tailkeep.report.audit_run import AuditRun
from tailkeep.report.svg import HAIR, Drawing, LineStyle, Rendered, canvas, label_axes, nth_line_style, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"input": "this corpus", "reference": "the reference"}
# Below this ratio of its limits an axis needs more ticks than the powers of ten.
_NARROW = 100
_LINE_STYLES = {"input": nth_line_style(0), "reference": nth_line_style(1)}


def audit_figures(run: AuditRun) -> list[Rendered]:
    """The figures of all tables that the run has."""
    return [render(drawing) for drawing in _drawings(run)]


def _drawings(run: AuditRun) -> Iterator[Drawing]:
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
        yield Drawing(
            "coverage", "Words of the reference that occur", _COVERAGE, "Coverage by frequency band.",
            lambda: _coverage(run),
        )  # fmt: skip
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
        run, "lengths", ("from_words", "to_words", "documents"), "Length of documents", "words", "% of documents",
        "Bins of a quarter of an octave.", log=True,
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


_COVERAGE = (
    "Words by the number of documents of one part of the reference that contain them, and the share of them that "
    "occurs in an equal amount of text: of this corpus, and of the rest of the reference."
)


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
) -> Drawing:
    def build() -> "Figure":
        figure, (panel,) = canvas(title)
        for side in run.sides:
            low, high, counts = run.columns(table, *names, side=side)
            total = sum(counts)
            if not total:
                continue
            edges = [*low, high[-1]]
            # A logarithmic axis cannot show a length of 0.
            edges = [edge + 1 for edge in edges] if log else edges
            panel.stairs([100 * count / total for count in counts], edges, **_style(side))
        if log:
            _log_axis(panel, "x")
        else:
            # With more ticks, long numbers such as -0.0075 would touch.
            panel.locator_params(axis="x", nbins=5)
        return _with_axes(figure, panel, run, x, y)

    return Drawing(table, title, caption, f"{title}: histogram of {_named(run)}.", build)


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
) -> Drawing:
    def build() -> "Figure":
        figure, (panel,) = canvas(title)
        for side in run.sides:
            across, up = run.columns(table, *names, side=side, **(values or {}))
            panel.plot(across, [100 * value for value in up], **_style(side))
        if log:
            _log_axis(panel, "x")
        return _with_axes(figure, panel, run, x, y)

    return Drawing(table, title, caption, f"{title}: curve of {_named(run)}.", build)


def _ranks(run: AuditRun) -> Drawing:
    def build() -> "Figure":
        figure, (panel,) = canvas("Zipf's law")
        for side in run.sides:
            rank, count = run.columns("ranks", "rank", "count", side=side)
            words = run.summary[side]["words"] or 1
            panel.plot(rank, [1e6 * value / words for value in count], **_style(side))
        _log_axis(panel, "x")
        _log_axis(panel, "y")
        return _with_axes(figure, panel, run, "rank", "occurrences per million words")

    caption = "A steeper end is a thinner tail."
    return Drawing("ranks", "Zipf's law", caption, f"Frequency by rank of {_named(run)}.", build)


def _coverage(run: AuditRun) -> "Figure":
    figure, (panel,) = canvas("Words of the reference that occur")
    first, covered, rest = run.columns("coverage", "first", "covered", "reference_covered")
    panel.plot(first, [100 * share for share in covered], marker="o", markersize=4, **_style("input"))
    panel.plot(first, [100 * share for share in rest], marker="s", markersize=4, **_style("reference"))
    _log_axis(panel, "x")
    panel.set_ylim(0, 103)
    return _with_axes(figure, panel, run, "documents of the reference", "% of words")


def _style(side: str) -> dict[str, Any]:
    style: LineStyle = _LINE_STYLES[side]
    return {"color": style.colour, "linestyle": style.dash, "linewidth": 1.5}


def _log_axis(panel: "Axes", which: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    (panel.set_xscale if which == "x" else panel.set_yscale)("log")
    axis = panel.xaxis if which == "x" else panel.yaxis
    low, high = panel.get_xlim() if which == "x" else panel.get_ylim()
    if high < _NARROW * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _with_axes(figure: "Figure", panel: "Axes", run: AuditRun, x: str, y: str) -> "Figure":
    panel.grid(axis="y", color=HAIR, linewidth=0.5)
    label_axes(panel, x=x, y=y)
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)
    lines = [(LABELS[side], _LINE_STYLES[side].colour, 1.0) for side in run.sides]
    if len(lines) > 1:
        # Above the axes, outside of all curves.
        for index, (text, colour, _) in enumerate(lines):
            panel.text(
                0.0 if index == 0 else 0.34, 1.03, ("— " if index == 0 else "-- ") + text, color=colour, fontsize=8.0,
                transform=panel.transAxes,
            )  # fmt: skip
    return figure


def _named(run: AuditRun) -> str:
    return " and ".join(LABELS[side] for side in run.sides)
