"""What an audit means, in sentences, each with the figures behind it.

Rule: nothing is flagged but by a test that passed its corrected level; what cannot be tested is told as a figure, and
no score sums it up.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailkeep.audit.comparison import Comparison, Test
from tailkeep.audit.coverage import FrequencyBand

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A sentence; `flagged` if a test stands behind it; `figures` by name; `source` of the sign, if a paper has it."""

    flagged: bool
    sentence: str
    figures: Mapping[str, Any]
    source: str = ""


@dataclass(frozen=True)
class _Sign:
    """A sign of harm: the statistics that show it, and in which direction (+1 if the input has more)."""

    there: str
    absent: str
    directions: Mapping[str, int]
    source: str


_TOEDIT = "ToEdit (arXiv 2412.14689)"
_BOTH = ("words", "pairs of words")
_SIGNS = (
    _Sign(
        "Its vocabulary is narrower than the reference's in equally much text",
        "Its vocabulary is not narrower than the reference's in equally much text",
        {f"{name}: {what}": -1 for name in _BOTH for what in ("distinct", "unseen mass")},
        f"narrow coverage, {_TOEDIT}",
    ),
    _Sign(
        "Its words lie in fewer buckets than the reference's",
        "Its words lie in no fewer buckets than the reference's",
        {
            f"{name}: {what}": way
            for name in _BOTH
            for what, way in (("entropy", -1), ("Gini", 1), ("top 100 share", 1))
        },
        f"over-concentrated n-grams, {_TOEDIT}",
    ),
    _Sign(
        "It repeats itself within documents more than the reference does",
        "It repeats itself within documents no more than the reference does",
        {"repetition": 1, "compression": 1},
        "repetition and compressibility of collapsed text",
    ),
    _Sign(
        "The prior assigns it higher confidence than the reference",
        "The prior does not assign it higher confidence than the reference",
        {"prior: surprise": -1, "prior: share over 0.9": 1, "prior: share over 0.99": 1},
        "over-confidence, ForTIFAI (arXiv 2509.08972)",
    ),
    _Sign(
        "Its documents differ less in perplexity than the reference's",
        "Its documents differ no less in perplexity than the reference's",
        {"prior: spread of surprise": -1},
        f"narrow range of perplexity, {_TOEDIT}",
    ),
)


def compared(comparison: Comparison, level: float) -> Iterator[Finding]:
    """What the tests say: how many passed, each sign, and differences that are no sign."""
    tests = {test.name: test for test in comparison.tests}
    flagged = comparison.flagged
    basis = (
        f"of {len(tests)} statistics (permutation tests of {comparison.documents:,} documents of "
        f"{comparison.words} words per side, Holm's correction at {level:g})"
    )
    if not flagged:
        yield Finding(
            False,
            f"No significant difference: 0 {basis}. This does not prove that the corpus is harmless: a "
            "larger sample detects smaller differences.",
            {"tests": len(tests), "flagged": 0},
        )
    else:
        yield Finding(
            True,
            f"Significant differences from the reference: {len(flagged)} {basis}.",
            {"tests": len(tests), "flagged": len(flagged)},
        )
    signs = set()
    for sign in _SIGNS:
        names = [name for name in sign.directions if name in tests]
        signs |= set(names)
        if names:
            yield _sign(sign, [tests[name] for name in names])
    others = [test for test in flagged if test.name not in signs]
    if others:
        yield Finding(
            True,
            "It also differs in " + ", ".join(_told(test) for test in others) + ". A difference is no harm by itself: "
            "another topic or genre shows in these as well.",
            {test.name: _figures(test) for test in others},
        )


def _sign(sign: _Sign, tests: Sequence[Test]) -> Finding:
    worse = [test for test in tests if test.flagged and test.difference * sign.directions[test.name] > 0]
    better = [test for test in tests if test.flagged and test not in worse]
    figures = {test.name: _figures(test) for test in (worse or better or tests)}
    if worse:
        told = f"{sign.there}: " + ", ".join(_told(test) for test in worse)
        told += f"; but the other way in {', '.join(_told(test) for test in better)}" if better else ""
        return Finding(True, f"{told}.", figures, sign.source)
    told = sign.absent
    told += f"; the other way round: {', '.join(_told(test) for test in better)}" if better else ""
    return Finding(bool(better), f"{told}.", figures, sign.source)


def covered(bands: Sequence[FrequencyBand]) -> Finding | None:
    """What is left of the reference's rarest words; a figure, not a test."""
    if not bands:
        return None
    rare, common = bands[0], bands[-1]
    return Finding(
        False,
        f"Of the words that stand in {_span(rare)} document of a part of the reference, {rare.covered:.1%} occur in as "
        f"much text of this corpus, and {rare.own:.1%} in as much other text of the reference; of those in "
        f"{_span(common)} documents {common.covered:.1%} and {common.own:.1%}. This is no test, since it takes in "
        "whole corpora.",
        {
            f"in {_span(band)} documents": {"types": band.types, "covered": band.covered, "reference": band.own}
            for band in (rare, common)
        },
        f"a missing tail, {_TOEDIT}",
    )


def alone(figures: Tree, threshold: float = 0.01) -> Iterator[Finding]:
    """What the figures of one corpus say without another beside them."""
    copies, share = figures["exact_copies"], figures["exact_copies_share"] or 0.0
    near = f"; {figures['near_copies']:,} are near an earlier one" if "near_copies" in figures else ""
    worth = (
        " Leave them out before anything else: they weigh more than any other choice here." if share > threshold else ""
    )
    yield Finding(
        False,
        f"Of its {figures['documents']:,} documents {copies:,} ({share:.2%}) are exact copies of an earlier one{near}."
        + worth,
        {key: figures[key] for key in ("documents", "exact_copies", "near_copies") if key in figures},
        "repeated documents, Lee et al. 2022 (arXiv 2107.06499)",
    )
    if "prior" in figures:
        yield _asked(figures["prior"])


def _asked(prior: Tree) -> Finding:
    told: Callable[[Any], str] = lambda value: "no figure" if value is None else f"{value:.1%}"  # noqa: E731
    range_ = prior["document_perplexity"]
    spans = "" if range_["p5"] is None else f", 5 % to 95 % of its documents {range_['p5']:.3g} to {range_['p95']:.3g}"
    mean = "none" if prior["perplexity"] is None else f"{prior['perplexity']:.3g}"
    return Finding(
        False,
        f"Its perplexity under the prior is {mean}{spans}. ToEdit at .99 would flag "
        f"{told(prior['toedit_would_flag'])} of its tokens; truncated cross-entropy of a model as sure as the prior "
        f"would leave out "
        f"{told(prior['tce_would_truncate']['0.9'])} at .9 and {told(prior['tce_would_truncate']['0.99'])} at .99.",
        {key: prior[key] for key in ("perplexity", "document_perplexity", "over")},
        "ToEdit (arXiv 2412.14689), ForTIFAI (arXiv 2509.08972)",
    )


def _told(test: Test) -> str:
    if test.input is None or test.reference is None:
        return f"{test.name} {test.difference:.3g} nats (mixed up {test.null[0]:.3g}; p {test.adjusted:.2g})"
    return f"{test.name} {test.input:.4g} vs. {test.reference:.4g} (p {test.adjusted:.2g})"


def _figures(test: Test) -> dict[str, Any]:
    return {
        "input": test.input,
        "reference": test.reference,
        "difference": test.difference,
        "adjusted_p": test.adjusted,
    }


def _span(band: FrequencyBand) -> str:
    if band.last is None:
        return f"{band.first:,} or more"
    return f"{band.first:,}" if band.last == band.first else f"{band.first:,} to {band.last:,}"
