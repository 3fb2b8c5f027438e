"""The page of an edit: its counts, the confidence of the prior in the corpus, and edits in context.

Rule: every text from a corpus or a name passes the filters of `page_kit`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tailkeep.report.edit import EditedText, EditRun, ShownEdit, context_after, context_before, read_edit_run, share
from tailkeep.report.page_kit import KeyNumber, render_template
from tailkeep.report.phrases import BASELINE, EDITED
from tailkeep.report.svg import WIDTH, Figure, linear, nice_domain, path, rect, text, tick_texts, ticks
from tailkeep.runs import Storage

_MAX_EDITS, _MAX_SNIPPETS, _MAX_REJECTS, _MAX_SHARDS, _MAX_TEXT = 40, 10, 20, 200, 400
_RESAMPLED = (
    "Each flagged token was resampled as it was, as most are: the prior gives them nearly all of its probability. A "
    "sampler.temperature of 1.5 changes more; read the changes before you train on them."
)
_KINDS = ("tokens", "flagged", "after")
# 0.99 stands below its neighbours, which it would touch on a phone.
_LONG_BAND = len("0.99")


def write_edits(folder: Path | str) -> Path:
    """Write (or rewrite) the report of the edit at `folder`, finished or not, and return the page's path.

    Raises:
        InputError: there is no run at `folder`, or one of its files cannot be read.
        StorageError: the file system refused a write.
    """
    run = read_edit_run(folder, edits=_MAX_EDITS, rejects=_MAX_REJECTS)
    Storage().write_text(run.path / "report.html", edit_page(run))
    return run.path / "report.html"


def edit_page(run: EditRun) -> str:
    """The HTML of the report."""
    counts = run.counts
    refused = {name.partition("/")[2]: count for name, count in sorted(counts.items()) if name.startswith("refused/")}
    shown = [one for one in run.texts if any(one.unchanged)]
    return render_template(
        "edits.html",
        run=run,
        record=run.record,
        verdict=edit_verdict(counts, complete=run.complete) if counts else run.name,
        numbers=list(_numbers(counts)) if counts else [],
        roles={"unedited": BASELINE, "flagged": EDITED},
        histogram=_histogram(run) if counts else None,
        snippets=list(islice(_snippets(run.texts), _MAX_SNIPPETS)),
        unchanged=_RESAMPLED if counts.get("flagged") else "No token was flagged.",
        bands=list(_bands(run)),
        refused=", ".join(f"{reason} {count:,}" for reason, count in refused.items()),
        texts=[{"document": one.document, "edits": one.edits, "parts": _parts(one)} for one in shown],
        shards=list(_shards(run)),
        more=max(0, len(run.shards) - _MAX_SHARDS),
    )


def edit_verdict(counts: Mapping[str, int], *, complete: bool = True) -> str:
    """What the edit did, in one sentence."""
    share_changed = share(counts["changed"] + counts["deleted"], counts["tokens"])
    documents = f"{counts['edited']:,} of {counts['documents']:,} documents"
    return f"{'The edit' if complete else 'So far the edit'} changed {share_changed} of the tokens, in {documents}."


def _numbers(counts: Mapping[str, int]) -> Iterator[KeyNumber]:
    tokens, changed = counts["tokens"], counts["changed"] + counts["deleted"]
    flagged = f"{counts['flagged']:,} of {tokens:,}; {counts['changed']:,} of them became another token"
    yield KeyNumber(EDITED, _percent(counts["flagged"], tokens), "%", "of the tokens flagged", flagged)
    words = f"{changed:,} tokens, {counts['deleted']:,} of them deleted"
    yield KeyNumber(EDITED, _percent(changed, tokens), "%", "of the tokens changed", words)
    documents = f"{counts['edited']:,} of {counts['documents']:,}; {counts['rejected']:,} rejected"
    yield KeyNumber(
        BASELINE,
        f"{100 * counts['edited'] / max(1, counts['documents']):.3g}",
        "%",
        "of the documents changed",
        documents,
    )


def _percent(part: int, whole: int) -> str:
    return share(part, whole).removesuffix("%")


def _histogram(run: EditRun) -> Figure:
    """Tokens by their probability under the prior, the flagged part in the role of edits."""
    counts, bands = run.counts, run.bands
    total = counts["tokens"] or 1
    before, flagged, after = ([100 * counts[f"{kind}/{band}"] / total for band in bands] for kind in _KINDS)
    start, top, bottom = 46.0, 40.0, 274.0
    _, ceiling = nice_domain(0, max([*before, *after, 1e-9]), floor=0)
    y = linear((0, ceiling), (bottom, top))
    values = ticks(0, ceiling, 5)
    parts = [text(0, 13, "% of tokens", "axis")]
    parts += [path([(start, y(value)), (WIDTH, y(value))], "grid") for value in values]
    parts += [
        text(start - 8, y(v) + 4.5, word, "tick", "end") for v, word in zip(values, tick_texts(values), strict=True)
    ]
    # The last band's label is wider than its bar.
    step = (WIDTH - 8 - start) / max(1, len(bands))
    for index, band in enumerate(bands):
        x = start + index * step
        parts.append(rect(x + 2, y(before[index]), step - 4, bottom - y(before[index]), "ghost"))
        parts.append(rect(x + 2, y(flagged[index]), step - 4, bottom - y(flagged[index]), f"bar {EDITED.css}"))
        parts.append(path([(x + 1, y(after[index])), (x + step - 1, y(after[index]))], f"step {BASELINE.css}"))
        parts.append(text(x + 2, bottom + (32 if len(band) == _LONG_BAND else 18), band, "tick"))
    parts.append(
        text((start + WIDTH) / 2, bottom + 52, "probability of the token under the prior, from", "axis", "middle")
    )
    for x, kind, words in ((start, "num", "all tokens"), (start + 100, f"sig {EDITED.css}", "flagged")):
        parts.append(text(x, 31, words, kind))
    parts.append(text(start + 190, 31, "— after the edit", f"sig {BASELINE.css}"))
    title = "How confident the prior is of the corpus"
    return Figure(
        "confidence", title,
        "Grey: all tokens of the original; purple: those that were flagged; line: the edited text, with the "
        "probability of the resampled token. The last bands divide the last tenth.",
        f"{title}: {share(counts['flagged'], total)} of the tokens are flagged.", bottom + 60, "".join(parts),
    )  # fmt: skip


def _snippets(texts: Sequence[EditedText]) -> Iterator[dict[str, Any]]:
    """Each edit with the text around it."""
    for one in texts:
        for edit, before, after in zip(one.edits, one.unchanged, one.unchanged[1:], strict=False):
            if edit.old != edit.new:
                yield {
                    "edit": edit,
                    "before": context_before(before),
                    "after": context_after(after),
                    "document": one.document,
                }


def _bands(run: EditRun) -> Iterator[list[str]]:
    counts = run.counts
    for band in run.bands:
        tokens, flagged, after = (counts[f"{kind}/{band}"] for kind in ("tokens", "flagged", "after"))
        if not tokens + after:
            continue
        changed = counts[f"changed/{band}"] + counts[f"deleted/{band}"]
        shares = share(tokens, counts["tokens"]), share(flagged, tokens), share(changed, tokens)
        yield [band, f"{tokens:,}", *shares, f"{after:,}"]


def _parts(edited: EditedText) -> list[tuple[str, ShownEdit | None]]:
    """Each unchanged text, shortened, with the edit that follows it."""
    return [(_shortened(same), edit) for same, edit in zip(edited.unchanged, (*edited.edits, None), strict=True)]


def _shortened(content: str) -> str:
    half = _MAX_TEXT // 2
    return content if len(content) <= _MAX_TEXT else f"{content[:half]} … {content[-half:]}"


def _shards(run: EditRun) -> Iterator[list[str]]:
    for name, counts in list(run.shards.items())[:_MAX_SHARDS]:
        changed = counts["changed"] + counts["deleted"]
        numbers = (f"{counts[kind]:,}" for kind in ("documents", "edited", "rejected", "tokens"))
        yield [name, *numbers, share(counts["flagged"], counts["tokens"]), share(changed, counts["tokens"])]
