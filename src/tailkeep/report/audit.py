"""The report of an audit: findings, figures and tables, on a page and on a terminal.

Rule: every text from a corpus or a name passes the filters of `page_kit`, or is a `Text` of visible characters.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tailkeep.report import formatting
from tailkeep.report.audit_charts import (
    LABELS,
    ROLES,
    ZERO_LEVEL,
    AuditRun,
    Row,
    audit_figures,
    plot_share,
    plot_tests,
    read_audit_run,
    standardised,
)
from tailkeep.report.page_kit import KeyNumber, render_template
from tailkeep.report.phrases import BASELINE
from tailkeep.runs import Storage

_MAX_KEYWORDS = 20
_MAX_DUPLICATES = 10
_MAX_SOURCES = 100
_MAX_TEMPLATES = 10
_FIGURES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Documents", ("documents",), "count"),
    ("Rejected", ("rejected",), "count"),
    ("Words", ("words",), "count"),
    ("Words per document, median", ("words_per_document", "median"), "number"),
    ("Exact duplicates", ("exact_duplicates_share",), "share"),
    ("Near duplicates", ("near_duplicates_share",), "share"),
    ("Sampled documents that follow a template", ("templated_share",), "share"),
    ("Words in text that many documents share", ("boilerplate_share",), "share"),
    ("Repeated 4-grams of words", ("repeated_4grams_share",), "share"),
    ("Distinct words", ("spectrum", "types"), "count"),
    ("Entropy of words, nats", ("spectrum", "entropy"), "number"),
    ("Gini of words", ("spectrum", "gini"), "number"),
    ("Share of the 100 most frequent words", ("spectrum", "top_100_share"), "share"),
    ("Zipf slope, ranks 10 to 1,000", ("spectrum", "zipf_slope"), "number"),
    ("Words that occur up to 3 times", ("spectrum", "tail_mass"), "share"),
    ("distinct-1", ("distinct", "1"), "number"),
    ("distinct-2", ("distinct", "2"), "number"),
    ("distinct-4", ("distinct", "4"), "number"),
    ("Compression", ("compression",), "number"),
    ("Perplexity under the prior", ("prior", "perplexity"), "number"),
    ("Perplexity of documents, 5th percentile", ("prior", "document_perplexity", "p5"), "number"),
    ("Perplexity of documents, 95th percentile", ("prior", "document_perplexity", "p95"), "number"),
    ("Tokens with p > 0.9", ("prior", "over", "0.9"), "share"),
    ("Tokens with p > 0.99: ToEdit flags, TCE truncates", ("prior", "over", "0.99"), "share"),
)


def write_audit(path: Path | str) -> Path:
    """Write (or rewrite) the report of the audit at `path`, finished or not, and return the page's path.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
        StorageError: the file system refused a write.
    """
    run = read_audit_run(path)
    Storage().write_text(run.path / "report.html", audit_page(run))
    return run.path / "report.html"


def audit_page(run: AuditRun) -> str:
    """The HTML of the report."""
    return render_template(
        "audit.html",
        run=run,
        record=run.record,
        summary=run.summary,
        verdict=audit_verdict(run),
        numbers=list(_numbers(run)) if run.summary else [],
        keys=[(ROLES[side], LABELS[side], words) for side, words in _KEYS.items() if side in run.sides],
        labels=[LABELS[side] for side in run.sides],
        share=plot_share(run),
        forest=plot_tests(run),
        figures=list(audit_figures(run)) if run.summary else [],
        table=list(_side_by_side(run)),
        families=list(_families(run)),
        keywords=[_keywords(run, kind) for kind in ("over", "under")] if run.rows("keywords") else [],
        duplicates=run.rows("duplicates")[:_MAX_DUPLICATES],
        templates=[row for row in run.templates if row["side"] == "input"][:_MAX_TEMPLATES],
        sources=[_source(run, row) for row in run.rows("sources")[:_MAX_SOURCES]],
        num_sources=len(run.rows("sources")),
        examples=list(_examples(run)),
        evidence_note=_EVIDENCE_NOTE,
        number=formatting.number,
    )


_BUCKETS = (
    "Entropy, Gini and top 100 are of 10,000 buckets of hashes, empty ones included, so they differ from those of "
    "whole corpora."
)
_WEIGHT_NOTE = "Beside its name: the mean ln p / q of its n-grams, above 0 more like the reference."
_EVIDENCE_NOTE = "Beside its name: ln p / q of the document in nats, above 0 more like the synthetic reference."
_KEYS = {"input": "the audited corpus", "reference": "the text that you trust"}


def audit_verdict(run: AuditRun) -> str:
    """The share like the synthetic reference, or how many statistics differ significantly, in one sentence."""
    if not run.summary:
        return run.name
    if share := run.summary.get("share"):
        if share["share"] is None:
            return "No share of documents like the synthetic reference is named; the first finding says why."
        low, high = (f"{100 * share[key]:.1f}" for key in ("low", "high"))
        if share["zero_p"] > ZERO_LEVEL:
            return f"{low} to {high} % of the documents are like the synthetic reference: 0 is not excluded."
        level = f"{100 * share['level']:.0f} % CI"
        return (
            f"{100 * share['share']:.1f} % of the documents are like the synthetic reference ({level} {low} to {high})."
        )
    tests = run.rows("tests")
    flagged = sum(row["flagged"] == "1" for row in tests)
    if not tests:
        reason = "without a reference" if len(run.sides) == 1 else "on too little text"
        documents = formatting.counted(run.summary["input"]["documents"], "document")
        return f"{documents} described; {reason} nothing is tested."
    if not flagged:
        return f"No significant difference from the reference: 0 of {len(tests)} statistics."
    return f"{flagged} of {len(tests)} statistics differ significantly from the reference."


def _families(run: AuditRun) -> Iterator[dict[str, Any]]:
    if tests := run.rows("tests"):
        yield {"title": f"The {len(tests)} tests", "tests": [_test(row) for row in tests], "note": _BUCKETS}
    if features := run.rows("language"):
        yield {
            "title": f"The {len(features)} features of English",
            "tests": [_test(row) for row in features],
            "note": "Per 1,000 words, means over documents; repeated openings as a share of the sentences.",
        }


def _numbers(run: AuditRun) -> Iterator[KeyNumber]:
    tests = run.rows("tests")
    side = run.summary["input"]
    share = run.summary.get("share") or {"share": None}
    if share["share"] is not None:
        is_significant = share["zero_p"] <= ZERO_LEVEL
        value = f"{100 * share['share']:.1f}" if is_significant else f"≤ {100 * share['high']:.1f}"
        estimate = f"{100 * share['share']:.1f}\N{NO-BREAK SPACE}%"
        more = "" if is_significant else f"; estimate {estimate}, not significantly above 0"
        yield KeyNumber(
            BASELINE, value, "%", "of the documents are like the synthetic reference",
            f"{100 * share['level']:.0f} % CI {100 * share['low']:.1f} to {100 * share['high']:.1f} %{more}",
        )  # fmt: skip
    if tests:
        flagged = [row for row in tests if row["flagged"] == "1"]
        yield KeyNumber(
            BASELINE, f"{len(flagged)} of {len(tests)}", "", "statistics differ significantly from the reference",
            "after Holm’s correction for all tests",
        )  # fmt: skip
    if tests and share["share"] is None:
        row = max(tests, key=lambda one: abs(standardised(one)) if one["null_low"] != one["null_high"] else 0.0)
        values = " against ".join(formatting.number(float(row[key])) for key in ("input", "reference") if row[key])
        certain = "significant" if row["flagged"] == "1" else "not significant"
        words = f"{row['name']}, this corpus − reference" + (f" ({values})" if values else "")
        difference = formatting.number(float(row["difference"]), signed=True)
        p = formatting.p_value(float(row["adjusted_p"]))
        yield KeyNumber(BASELINE, difference, "", f"Largest difference: {words}", f"corrected p {p}: {certain}")
    duplicates = side.get("exact_duplicates_share") or 0.0
    words = f"of {formatting.counted(side['documents'], 'document')} repeat an earlier one exactly"
    yield KeyNumber(BASELINE, f"{100 * duplicates:.1f}", "%", words, f"{side['words']:,} words in all")


def show_audit(path: Path | str, console: Console) -> None:
    """Print the findings of the audit at `path` and its table of both corpora.

    Raises:
        InputError: there is no audit run at `path`, or one of its files cannot be read.
    """
    run = read_audit_run(path)
    console.print(formatting.terminal_text(f"{run.name}: an audit, fingerprint {run.record.fingerprint[:12]}", "bold"))
    if not run.summary:
        console.print(Text("The audit is not finished. Run the same command again to continue."))
        return
    for finding in run.summary["findings"]:
        flag = Text("flagged  " if finding["flagged"] else "         ", "bold")
        sentence = f"{finding['sentence']} {finding.get('caveat', '')}".rstrip()
        console.print(Padding(flag.append_text(formatting.terminal_text(sentence)), (0, 0, 1, 0)))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in ("", *(LABELS[side] for side in run.sides)):
        table.add_column(heading, justify="right" if heading else "left")
    for row in _side_by_side(run):
        table.add_row(*row)
    console.print(table)
    if command := run.summary["lab_command"]:
        console.print(formatting.terminal_text(f"To measure it with a model, in the audit's folder: {command}"))


def _side_by_side(run: AuditRun) -> Iterator[list[str]]:
    for label, path, kind in _FIGURES:
        values = [_lookup(run.summary[side], path) for side in run.sides]
        if any(value is not None for value in values):
            yield [label, *(_shown(value, kind) for value in values)]


def _lookup(tree: Any, path: tuple[str, ...]) -> float | None:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return None if tree is None else float(tree)


def _shown(value: float | None, kind: str) -> str:
    if value is None:
        return formatting.DASH
    if kind == "share":
        return f"{100 * value:.2f} %"
    return formatting.count(value) if kind == "count" else formatting.number(value)


def _test(row: Row) -> dict[str, Any]:
    shown = {key: formatting.number(float(row[key])) if row[key] else formatting.DASH for key in ("input", "reference")}
    null = f"{formatting.number(float(row['null_low']))} to {formatting.number(float(row['null_high']))}"
    return {
        "name": row["name"],
        **shown,
        "difference": formatting.number(float(row["difference"]), signed=True),
        "null": null,
        "p": formatting.number(float(row["adjusted_p"]), digits=2),
        "flagged": row["flagged"] == "1",
    }


def _source(run: AuditRun, row: Row) -> dict[str, Any]:
    def percent(key: str) -> str:
        return f"{100 * float(row[key]):.1f}\N{NO-BREAK SPACE}%" if row[key] else formatting.DASH

    return {
        "name": row["source"],
        "documents": formatting.count(float(row["documents"])),
        "share": percent("share"),
        "interval": f"{percent('low')} to {percent('high')}" if row["share"] else row["refusal"],
        "p": formatting.p_value(float(row["adjusted_p"])) if row["adjusted_p"] else formatting.DASH,
        "flagged": row["flagged"] == "1",
        "telling": [item for item in run.source_documents if item["location"] in row["telling"].split(" ")],
    }


def _keywords(run: AuditRun, kind: str) -> dict[str, Any]:
    rows = sorted(run.rows("keywords", in_input=kind), key=lambda row: -abs(float(row["score"])))[:_MAX_KEYWORDS]
    title = "More than in the reference" if kind == "over" else "Less than in the reference"
    return {
        "title": title,
        "rows": [
            (row["text"], *(formatting.number(float(row[side])) for side in ("input", "reference")), row["n"])
            for row in rows
        ],
    }


def _examples(run: AuditRun) -> Iterator[dict[str, Any]]:
    """Documents to read: of this corpus least and most like the reference, and of the reference most like this one."""
    corpus = [item for item in run.examples if item["side"] == "input"]
    half = len(corpus) // 2
    parts = (
        ("Of this corpus, least like the reference", corpus[:half]),
        ("Of this corpus, most like the reference", corpus[half:]),
        ("Of this corpus, most like the synthetic reference", [_as_example(item) for item in run.telling]),
        ("Of the reference, most like this corpus", [item for item in run.examples if item["side"] == "reference"]),
    )
    for title, items in parts:
        if items:
            is_synthetic = "synthetic" in title
            yield {"title": title, "items": items, "note": _EVIDENCE_NOTE if is_synthetic else _WEIGHT_NOTE}


def _as_example(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "weight": item["evidence"]}
