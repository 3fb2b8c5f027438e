"""The findings of an audit: sentences with figures, and where differences come from; of the share: `share_summary`.

Rules: only a test that is significant after correction flags a finding. What cannot be tested is reported as a figure,
and no score sums the findings up. A statistic that differs says that two corpora differ, never why: only a further
reference, compared with the first in the same way, can tell genre from machine, as far as that reference goes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tailkeep.audit.comparison import Comparison, StatisticTest
from tailkeep.audit.config import NearDuplicateConfig
from tailkeep.audit.keywords import FrequencyBand

SECOND, SYNTHETIC = "second", "synthetic"
MAX_NAMED = 5
"""The most names that a sentence lists."""

_UNTESTED = (
    "Human text of another topic, genre or age gives such differences too: a second human reference "
    "(--second-reference) and a synthetic one (--synthetic) tell more."
)


_REFERENCES = {SECOND: "second human reference", SYNTHETIC: "synthetic reference"}
_EXPLAINED = {
    SECOND: (", which genre alone can explain", ", so its genre explains none of it"),
    SYNTHETIC: ("", ""),
}


@dataclass(frozen=True)
class Origins:
    """The comparisons of further references with the first: `second`, human text of another kind, and `synthetic`.

    `not_tested` says why one of them could not be compared.
    """

    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    not_tested: Mapping[str, str] = field(default_factory=dict)

    def shared_by(self, side: str, tests: Sequence[StatisticTest]) -> list[str]:
        """The names of the `tests` in which the reference `side` differs significantly in the same direction."""
        others = {test.name: test for test in self.comparisons[side].all_tests if test.has_direction}
        return [
            test.name
            for test in tests
            if (other := others.get(test.name)) and other.flagged and other.difference * test.difference > 0
        ]

    def caveat(self, tests: Sequence[StatisticTest]) -> str:
        """What the further references say of the significant `tests`, in a few sentences."""
        if not self.comparisons and not self.not_tested:
            return _UNTESTED
        directed = sum(test.has_direction for test in tests)
        sentences = [
            f"The {name} was not tested: {self.not_tested[side]}"
            if side in self.not_tested
            else self._shared_sentence(side, self.shared_by(side, tests), directed)
            for side, name in _REFERENCES.items()
            if side in self.not_tested or (side in self.comparisons and directed)
        ]
        if self.comparisons and not directed:
            sentences.append("A divergence has no direction that another reference could share.")
        elif self.comparisons and directed < len(tests):
            sentences.append("Divergences have no direction and are not counted here.")
        if SECOND not in self.comparisons and SECOND not in self.not_tested:
            sentences.append("Another genre can give such differences too: --second-reference tests one.")
        return " ".join(sentences)

    def figures(self, test: StatisticTest) -> dict[str, bool]:
        """By reference, whether it differs from the first significantly and in the same direction as `test`.

        Nothing of a divergence, which has no direction.
        """
        if not test.has_direction:
            return {}
        return {f"{side}_alike": bool(self.shared_by(side, [test])) for side in self.comparisons}

    @staticmethod
    def _shared_sentence(side: str, names: Sequence[str], total: int) -> str:
        shared, unshared = _EXPLAINED[side]
        if not names:
            return f"The {_REFERENCES[side]} does not differ in this direction{unshared}."
        return f"The {_REFERENCES[side]} differs in the same direction in {_count(names, total)}{shared}."


def _count(names: Sequence[str], total: int) -> str:
    if len(names) == total:
        return f"all {total}" if total > 1 else names[0]
    # The tests in summary.json name them all.
    return f"{len(names)} of {total}" + (f" ({', '.join(names)})" if len(names) <= MAX_NAMED else "")


Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A sentence with its figures by name.

    Attributes:
        flagged: whether a test supports it.
        sentence: the difference, or what was counted.
        figures: the figures behind the sentence.
        source: the paper that names the sign.
        caveat: what the sentence does not say.
    """

    flagged: bool
    sentence: str
    figures: Mapping[str, Any]
    source: str = ""
    caveat: str = ""


@dataclass(frozen=True)
class _Sign:
    """A difference that a paper names: its statistics, and their direction (+1: higher in the input)."""

    present: str
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
        "Its words are concentrated in fewer buckets than the reference's",
        "Its words are not concentrated in fewer buckets than the reference's",
        {
            f"{name}: {what}": way
            for name in _BOTH
            for what, way in (("entropy", -1), ("Gini", 1), ("top 100 share", 1))
        },
        f"over-concentrated n-grams, {_TOEDIT}",
    ),
    _Sign(
        "It repeats itself within documents more than the reference does",
        "It does not repeat itself within documents more than the reference does",
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
        "The perplexity of its documents has a narrower spread than the reference's",
        "The perplexity of its documents has no narrower spread than the reference's",
        {"prior: spread of surprise": -1},
        f"narrow range of perplexity, {_TOEDIT}",
    ),
)


def comparison_findings(
    comparison: Comparison, level: float, origins: Origins, document_separator: str
) -> Iterator[Finding]:
    """The findings of the tests: how many are significant, each sign, and significant differences that are no sign.

    `origins` says of each whether other human text, or synthetic text, differs from the reference in the same way.
    """
    tests = {test.name: test for test in comparison.tests}
    flagged = comparison.flagged
    basis = (
        f"of {len(tests)} statistics (permutation tests of {comparison.documents:,} documents of "
        f"{comparison.words} words per side, Holm's correction at {level:g})"
    )
    by_line = _BY_LINE if document_separator == "line" else ""
    short = f"{_SHORT}{by_line}" if comparison.words < _FEW_WORDS else ""
    if not flagged:
        yield Finding(
            False,
            f"No significant difference: 0 {basis}.",
            {"tests": len(tests), "flagged": 0},
            caveat="This does not prove that the corpus is harmless: a larger sample detects smaller differences."
            + short,
        )
    else:
        alike = {f"{side}_alike": len(origins.shared_by(side, flagged)) for side in origins.comparisons}
        if alike:
            alike["with_direction"] = sum(test.has_direction for test in flagged)
        yield Finding(
            True,
            f"It differs from the reference in {len(flagged)} {basis}.",
            {"tests": len(tests), "flagged": len(flagged), **alike},
            caveat=origins.caveat(flagged) + short,
        )
    signs = set()
    for sign in _SIGNS:
        names = [name for name in sign.directions if name in tests]
        signs |= set(names)
        if names:
            yield _sign_finding(sign, [tests[name] for name in names], origins)
    others = [test for test in flagged if test.name not in signs]
    if others:
        yield Finding(
            True,
            f"It also differs in {_describe(others)}.",
            {test.name: _figures(test, origins) for test in others},
            caveat=f"A difference alone is no harm. {origins.caveat(others)}",
        )


def _sign_finding(sign: _Sign, tests: Sequence[StatisticTest], origins: Origins) -> Finding:
    worse = [test for test in tests if test.flagged and test.difference * sign.directions[test.name] > 0]
    better = [test for test in tests if test.flagged and test not in worse]
    figures = {test.name: _figures(test, origins) for test in ([*worse, *better] or tests)}
    if worse:
        opposite = f". But the opposite holds for {_describe(better)}" if better else ""
        sentence = f"{sign.present}: {_describe(worse)}{opposite}."
        return Finding(True, sentence, figures, sign.source, origins.caveat(worse))
    opposite = f". It differs in the opposite direction in {_describe(better)}" if better else ""
    caveat = origins.caveat(better) if better else ""
    return Finding(bool(better), f"{sign.absent}{opposite}.", figures, sign.source, caveat)


_FEW_WORDS = 16
_SHORT = " So short documents say little."
_BY_LINE = " If each is a line of a longer one, give --document-separator blank-line."


def language_finding(comparison: Comparison, level: float, origins: Origins) -> Finding:
    """Which features of the panel of language differ, or why it does not cover the corpus."""
    source = "panel of language: arXiv 2605.20602 finds such forms dying in self-training"
    if comparison.not_covered:
        return Finding(False, f"Its language was not compared: {comparison.not_covered}.", {}, source)
    flagged = [test for test in comparison.language if test.flagged]
    fewer, more = ([test for test in flagged if test.difference * way > 0] for way in (-1, 1))
    parts = [f"{word} {_describe(tests)}" for word, tests in (("fewer", fewer), ("more", more)) if tests]
    basis = f"of {len(comparison.language)} features of English (Holm's correction at {level:g})"
    sentence = (
        f"Its language differs from the reference's in {len(flagged)} {basis}: {'; '.join(parts)}."
        if flagged
        else f"Its language does not differ significantly from the reference's: 0 {basis}."
    )
    return Finding(
        bool(flagged),
        sentence,
        {test.name: _figures(test, origins) for test in flagged or comparison.language},
        source,
        "Figures are per 1,000 words; repeated openings are a share of the sentences. Forms are counted, not meanings, "
        "and another genre has other forms.",
    )


def coverage_finding(bands: Sequence[FrequencyBand]) -> Finding | None:
    """How much of the rarest words of the reference the corpus covers: a figure, not a test."""
    if not bands:
        return None
    rare, common = bands[0], bands[-1]
    return Finding(
        False,
        f"Of the words in {_span(rare)} document of a part of the reference, {rare.covered:.1%} occur in as much text "
        f"of this corpus, and {rare.reference_covered:.1%} in as much other text of the reference. Of those in "
        f"{_span(common)} documents, {common.covered:.1%} and {common.reference_covered:.1%}.",
        {
            f"in {_span(band)} documents": {
                "types": band.types,
                "covered": band.covered,
                "reference": band.reference_covered,
            }
            for band in (rare, common)
        },
        f"a missing tail, {_TOEDIT}",
        "This is a figure of the whole corpora, not a test.",
    )


def corpus_findings(figures: Tree, near_duplicates: NearDuplicateConfig | None) -> Iterator[Finding]:
    """The findings about one corpus, without a reference: duplicates, and confidence under the prior."""
    copies, share = figures["exact_duplicates"], figures["exact_duplicates_share"] or 0.0
    near = (
        f"; {figures['near_duplicates']:,} of {near_duplicates.shingle} words or more are near duplicates of one, "
        "exact copies included"
        if near_duplicates
        else ""
    )
    advice = " Remove them first: no other choice here matters as much." if share > 0.01 else ""
    yield Finding(
        False,
        f"Of its {figures['documents']:,} documents, {copies:,} ({share:.2%}) are exact copies of an earlier one{near}."
        + advice,
        {key: figures[key] for key in ("documents", "exact_duplicates", "near_duplicates") if key in figures},
        "repeated documents, Lee et al. 2022 (arXiv 2107.06499)",
        "" if near else "Copies with small changes are not counted: --near-duplicates counts them.",
    )
    if "compression" in figures and figures["compression"] is None:
        yield Finding(
            False,
            "It has no compression ratio: neither a file nor a bundle of small files holds a block of 128 KiB. Join "
            "the files, or leave --compression out.",
            {},
        )
    if "templates" in figures:
        yield _template_finding(figures)
    if "prior" in figures:
        yield _prior_finding(figures["prior"])


def _template_finding(figures: Tree) -> Finding:
    number, sampled = figures["templates"], figures["templates_among"]
    share = figures["boilerplate_share"]
    words = "" if share is None else f"; {share:.1%} of the words stand in text that many documents share"
    if number:
        low, high = figures["templated_interval"]
        form = "one template" if number == 1 else f"{number} templates"
        sentence = f"{figures['templated']:,} ({low:.0%} to {high:.0%}) follow {form}"
        advice = " Their skeletons are in tables/templates.jsonl."
    else:
        sentence, advice = "none follows a template", ""
    return Finding(
        False,
        f"Of {sampled:,} sampled documents {sentence}{words}.{advice}",
        {key: figures[key] for key in ("templates", "templated_share", "boilerplate_share")},
        "",
        "A template need not be machine-written: forms, licences and generated pages have one too.",
    )


def _prior_finding(prior: Tree) -> Finding:
    def percent(value: float | None) -> str:
        return "an unknown share" if value is None else f"{value:.1%}"

    range_ = prior["document_perplexity"]
    span = "" if range_["p5"] is None else f" (5 % to 95 % of documents: {range_['p5']:.3g} to {range_['p95']:.3g})"
    mean = "undefined" if prior["perplexity"] is None else f"{prior['perplexity']:.3g}"
    truncated = prior["tce_would_truncate"]
    return Finding(
        False,
        f"Its perplexity under the prior is {mean}{span}. ToEdit with p >= 0.99 would flag "
        f"{percent(prior['toedit_would_flag'])} of its tokens. Truncated cross-entropy of a model as confident as the "
        f"prior would mask {percent(truncated['0.9'])} at 0.9 and {percent(truncated['0.99'])} at 0.99.",
        {key: prior[key] for key in ("perplexity", "document_perplexity", "over")},
        "ToEdit (arXiv 2412.14689), ForTIFAI (arXiv 2509.08972)",
        "Figures of a prior are comparable only with those of the same prior.",
    )


def _describe(tests: Sequence[StatisticTest]) -> str:
    return ", ".join(_describe_test(test) for test in tests)


def _describe_test(test: StatisticTest) -> str:
    if not test.has_direction:
        return f"{test.name} {test.difference:.3g} nats (permuted {test.null[0]:.3g}; p {test.adjusted:.2g})"
    return f"{test.name} {test.input:.4g} vs. {test.reference:.4g} (p {test.adjusted:.2g})"


def _figures(test: StatisticTest, origins: Origins) -> dict[str, Any]:
    return {
        **origins.figures(test),
        "input": test.input,
        "reference": test.reference,
        "difference": test.difference,
        "adjusted_p": test.adjusted,
    }


def _span(band: FrequencyBand) -> str:
    if band.last is None:
        return f"{band.first:,} or more"
    return f"{band.first:,}" if band.last == band.first else f"{band.first:,} to {band.last:,}"
