"""What all shards say together: the summary and the tables.

Rule: figures first, tests second, words last; each is made of those before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tailkeep.audit import mixing, tabling
from tailkeep.audit.asking import Asker, asker_of
from tailkeep.audit.comparing import Comparison, compare
from tailkeep.audit.config import AuditConfig
from tailkeep.audit.contrasts import Contrast, Importance, contrasts, importance
from tailkeep.audit.corpus import Corpus, Local, read_corpus
from tailkeep.audit.coverage import Band, coverage
from tailkeep.audit.experiment import experiment
from tailkeep.audit.figures import figures_of, without_nan
from tailkeep.audit.judging import Finding, alone, compared, covered
from tailkeep.data.corpus import Manifest, total
from tailkeep.errors import InputError
from tailkeep.redaction import redact_tree
from tailkeep.threads import limited_threads

_MEGABYTE = 1 << 20
_ENDS = 5


@dataclass(frozen=True)
class Conclusion:
    """The content of `summary.json`, and the texts of further files by name."""

    summary: Mapping[str, Any]
    files: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Contrasted:
    """All that needs both sides. `comparison` is None where `refused` says why there could be none."""

    comparison: Comparison | None
    refused: str
    bands: list[Band]
    importance: Importance
    over: dict[int, tuple[list[Contrast], list[Contrast]]]


def conclude(config: AuditConfig, manifests: Sequence[Manifest], local: Local, asker: Asker | None) -> Conclusion:
    """The summary and tables of finished shards.

    Args:
        config: of the audit.
        manifests: of all shards, in their order.
        local: gives their files.
        asker: the prior, if it is loaded.
    """
    sides = {side: [item for item in manifests if item.shard.startswith(f"{side}/")] for side in ("input", "against")}
    with limited_threads(config.threads):
        corpora = {side: read_corpus(found, local, config) for side, found in sides.items() if found}
        figures = {side: figures_of(corpus, int(total(sides[side])["rejected"])) for side, corpus in corpora.items()}
        found = None
        if "against" in corpora:
            found = _contrasted(config, corpora, asker or asker_of(config))
    # The texts that were read can hold anything; so can the names of files.
    command, lab = experiment({side: corpus.sample for side, corpus in corpora.items()}, config.prior)
    findings = list(_findings(config, figures["input"], found))
    summary: dict[str, Any] = {
        "findings": [asdict(finding) for finding in findings],
        "lab_command": command,
        "mixing": [asdict(advice) for advice in _planned(config, figures)],
        **figures,
    }
    if found is not None:
        comparison = found.comparison
        summary["comparison"] = None if comparison is None else asdict(comparison)
        summary["coverage"] = [asdict(band) for band in found.bands]
        summary["separation_by_importance"] = found.importance.separation
    tables = tabling.of_corpora(corpora, config.top)
    if found is not None:
        tables |= tabling.of_contrasts(found.comparison, found.bands, found.importance, found.over)
    return Conclusion(without_nan(redact_tree(summary)), {**tables, **lab})


def _contrasted(config: AuditConfig, corpora: Mapping[str, Corpus], asker: Asker | None) -> Contrasted:
    ours, theirs = corpora["input"], corpora["against"]
    comparison, refused = None, ""
    try:
        ask = asker.log_probs if asker else None
        comparison = compare(ours.sample, theirs.sample, config.sample, config.testing, config.seed, ask)
    except InputError as error:
        # Everything else stands; only the tests cannot be made.
        refused = str(error)
    bands = coverage(
        ours.tables,
        theirs.tables,
        (ours.number("words"), theirs.number("words")),
        memory=config.memory * _MEGABYTE // 2,
    )
    buckets = [corpus.counts["buckets/1"] + corpus.counts["buckets/2"] for corpus in (ours, theirs)]
    weights = importance((ours.sample, theirs.sample), (buckets[0], buckets[1]), _ENDS)
    totals = {1: "words", 2: "bigrams"}
    over = {
        length: contrasts(
            ours.frequent[length], theirs.frequent[length], (ours.number(name), theirs.number(name)), config.top
        )
        for length, name in totals.items()
    }
    return Contrasted(comparison, refused, bands, weights, over)


def _findings(config: AuditConfig, figures: Mapping[str, Any], found: Contrasted | None) -> list[Finding]:
    own = list(alone(figures))
    if found is None:
        told = (
            "No reference was given (--against), so nothing here can be flagged: the figures have no yardstick. "
            "Compare with text that people wrote, of the same kind."
        )
        return [Finding(False, told, {}), *own]
    band = covered(found.bands)
    if found.comparison is None:
        tests = [Finding(False, f"Nothing was tested: {found.refused}", {})]
    else:
        tests = list(compared(found.comparison, config.testing.level))
    return [*tests, *([band] if band else []), *own]


def _planned(config: AuditConfig, figures: Mapping[str, Mapping[str, Any]]) -> list[mixing.Advice]:
    """With sizes that are given; else, of two corpora, the reference's words as real and the input's as synthetic."""
    if config.mixing is not None:
        return mixing.plan(config.mixing.real, config.mixing.synthetic)
    if "against" not in figures or not (figures["input"]["words"] and figures["against"]["words"]):
        return []
    real, synthetic = figures["against"], figures["input"]
    return mixing.plan(real["words"], synthetic["words"], examples=real["documents"])
