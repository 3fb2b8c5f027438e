"""Sample texts, generation by generation, cut short and made safe to show.

Rule: samples come from a machine that learned from a corpus; nothing in them is ever interpreted.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tailkeep.report.reading import Entry, Group
from tailkeep.runs import redact
from tailkeep.visible import visible

LONGEST = 600
_SHOWN_GENERATIONS = 3


@dataclass(frozen=True)
class Sample:
    """One text and the prompt that it continues, both visible and at most `LONGEST` characters."""

    prompt: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """The texts that one prompt got: `texts[row][column]` for `generations[row]` and the group's arm `column`."""

    number: int
    prompt: str
    generations: tuple[int, ...]
    texts: tuple[tuple[str | None, ...], ...]


def first_middle_last(generations: list[int], most: int = _SHOWN_GENERATIONS) -> tuple[int, ...]:
    """At most `most` of `generations`, evenly spread, with the first and the last."""
    if len(generations) <= most:
        return tuple(generations)
    last = len(generations) - 1
    return tuple(generations[round(i * last / (most - 1))] for i in range(most))


def views(group: Group) -> tuple[str, ...]:
    """The decoders of which some entry of `group` has texts, the common one first."""
    found = {
        folder.name
        for entry in group.entries
        if entry.cell.samples.is_dir()
        for folder in entry.cell.samples.iterdir()
        if (folder / "text.jsonl").is_file()
    }
    return tuple(sorted(found, key=lambda view: (view != "common", view)))


def prompts(group: Group, view: str, *, most: int) -> tuple[Prompt, ...]:
    """The first `most` prompts of the lowest seed, with what each arm wrote to them in a few generations."""
    seed = min(entry.seed for entry in group.entries)
    generations = first_middle_last(group.generations())
    read: dict[tuple[int, str], list[Sample]] = {
        (entry.generation, entry.arm): samples(entry, view, most=most)
        for entry in group.entries
        if entry.seed == seed and entry.generation in generations
    }
    count = max((len(found) for found in read.values()), default=0)
    return tuple(_prompt(n, read, generations, group.arms) for n in range(count))


def _prompt(
    n: int, read: dict[tuple[int, str], list[Sample]], generations: tuple[int, ...], arms: tuple[str, ...]
) -> Prompt:
    prompt = next(found[n].prompt for found in read.values() if len(found) > n)

    def text(generation: int, arm: str) -> str | None:
        found = read.get((generation, arm), [])
        return found[n].text if len(found) > n else None

    rows = [(generation, tuple(text(generation, arm) for arm in arms)) for generation in generations]
    written = [(generation, texts) for generation, texts in rows if any(t is not None for t in texts)]
    return Prompt(n + 1, prompt, tuple(g for g, _ in written), tuple(texts for _, texts in written))


def samples(entry: Entry, view: str, *, most: int) -> list[Sample]:
    """The first `most` texts of `entry` through `view`; none where it has no text."""
    path = entry.cell.samples / view / "text.jsonl"
    return list(islice(_lines(path), most)) if path.is_file() else []


def _lines(path: Path) -> Iterator[Sample]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                tree = json.loads(line)
            except ValueError:
                tree = {"text": line}
            tree = tree if isinstance(tree, dict) else {"text": line}
            yield Sample(_shown(tree.get("prompt", "")), _shown(tree.get("text", "")))


def _shown(text: object) -> str:
    # Cut before the escapes are written, so that none is cut in two.
    whole = redact(str(text))
    return visible(whole[:LONGEST]) + (" …" if len(whole) > LONGEST else "")
