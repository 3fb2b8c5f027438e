"""The findings of the share of synthetic documents: of the whole input, and of its sources.

Rule: no number stands beside a refusal.
"""

from collections.abc import Iterable
from dataclasses import asdict

from tailkeep.audit.evidence import MIN_DOCUMENTS
from tailkeep.audit.findings import Finding
from tailkeep.audit.share_summary import FALSE_DISCOVERIES, ShareSummary

_ZERO_LEVEL = 0.05
_MAX_NAMED = 5
_SMALL = 0.05
"""The smallest share whose interval held on the one division that development never saw.

See docs/auditing/synthetic-share.md.
"""


def share_finding(share: ShareSummary) -> Finding:
    """How many documents are like the synthetic reference, with the interval, or why no share is named."""
    estimate, source = share.estimate, "mixture of both references, Liang et al. 2024 (arXiv 2403.07183)"
    if estimate.refusal:
        sentence = f"No share of documents like the synthetic reference is named: {estimate.refusal}."
        return Finding(False, sentence, share.figures(), source)
    assert estimate.share is not None
    assert estimate.zero_p is not None
    short = f"; {share.short:,} shorter ones are not judged" if share.short else ""
    small = (
        " Below 5 % it hangs on how well the human reference stands for the corpus." if estimate.share < _SMALL else ""
    )
    is_significant = estimate.zero_p <= _ZERO_LEVEL
    zero = "" if is_significant else f" It is not significantly above 0 (p {estimate.zero_p:.2g})."
    return Finding(
        is_significant,
        f"{estimate.share:.1%} of its documents are like the synthetic reference ({share.level:.0%} CI "
        f"{estimate.low:.1%} to {estimate.high:.1%}; {estimate.documents:,} documents of {share.words} words{short})."
        + zero,
        share.figures(),
        source,
        "Text of models unlike that reference can be missed: of all synthetic text only the lower end holds. Human "
        "text that is nearer to it than the human reference is, by less than the tests detect, counts as synthetic."
        + small,
    )


def source_finding(share: ShareSummary) -> Finding | None:
    """Which sources have documents like the synthetic reference; None without sources."""
    sources = share.sources
    if not sources:
        return None
    flagged = sorted((item for item in sources if item.flagged), key=lambda item: -(item.estimate.low or 0))
    named = _listed(
        f"{item.source} {item.estimate.share:.1%} ({item.estimate.low:.1%} to {item.estimate.high:.1%})"
        for item in flagged
    )
    refused = _listed(item.source for item in sources if item.estimate.refusal)
    without = f" No share is named for {refused}: such a source can hold synthetic text too." if refused else ""
    return Finding(
        bool(flagged),
        f"Sources with documents like the synthetic reference: {len(flagged)} of {len(sources)} (false discovery rate "
        f"{FALSE_DISCOVERIES:.0%})" + (f": {named}." if flagged else ".") + without,
        {item.source: asdict(item.estimate) for item in sources},
        "false discoveries, Benjamini and Hochberg 1995",
        "A source is judged by its documents in the sample, with the references of the whole corpus: audit one of "
        "another genre alone, with references of its kind. Sources with fewer than "
        f"{MIN_DOCUMENTS} documents of {share.words} words are judged together.",
    )


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    more = f" and {len(named) - _MAX_NAMED} more, see tables/sources.csv" if len(named) > _MAX_NAMED else ""
    return ", ".join(named[:_MAX_NAMED]) + more
