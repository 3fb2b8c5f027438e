"""What models wrote, generation by generation: texts, rows of images, and what is left of the tail.

Rules: samples come from a model trained on a corpus, so nothing in them is interpreted. Texts are shortened and made
visible; a file that holds no 8-bit images is not drawn. The tail is one bar per person, mode, class or frequency band:
the bars pool the seeds, their height is the square root of the count, and a dash means that nothing is left. What is
alive is decided seed by seed, as the metrics do. A table of an unexpected shape is skipped.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.report import formatting
from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.svg import WIDTH, Figure, image, label, path, rect, text
from tailkeep.sanitize import excerpt, visible

Images = NDArray[np.uint8]

LONGEST = 600
_TEXT_GENERATIONS = 3
_IMAGE_GENERATIONS = 5
_IMAGES_PER_ROW, _IMAGES_LEFT, _IMAGES_GAP = 14, 56.0, 4.0
_MAX_SIDE = 128
_MAX_ITEMS, _LEFT, _RIGHT, _BAR_HEIGHT, _TAIL_ROW = 64, 66.0, 380.0, 26.0, 33.0
_TAIL_TITLES = {
    "people": ("Who is still written about", "people, most frequent first", "named"),
    "modes": ("Which modes are still sampled", "modes, heaviest first", "alive"),
    "classes": ("Which classes are still generated", "classes, most frequent first", "alive"),
    "words": ("Which words still occur", "words in real text, most frequent first", "covered"),
}


@dataclass(frozen=True)
class SampleText:
    """One text and the prompt that it continues, both made visible and at most `LONGEST` characters."""

    prompt: str
    text: str


@dataclass(frozen=True)
class PromptSamples:
    """The samples of one prompt: `texts[row][column]` is of `generations[row]` and the arm `column`."""

    number: int
    prompt: str
    generations: tuple[int, ...]
    texts: tuple[tuple[str | None, ...], ...]


def first_middle_last(generations: list[int], most: int = _TEXT_GENERATIONS) -> tuple[int, ...]:
    """At most `most` of `generations`, evenly spread, with the first and the last."""
    if len(generations) <= most:
        return tuple(generations)
    last = len(generations) - 1
    return tuple(generations[round(i * last / (most - 1))] for i in range(most))


def sample_views(group: ArmGroup) -> tuple[str, ...]:
    """The decoders that some entry of `group` has texts of, the common one first."""
    names = {
        folder.name
        for entry in group.entries
        if entry.directory.samples.is_dir()
        for folder in entry.directory.samples.iterdir()
        if (folder / "text.jsonl").is_file()
    }
    return tuple(sorted(names, key=lambda view: (view != "common", view)))


def read_prompts(
    group: ArmGroup, view: str, *, most: int, arms: Sequence[str] | None = None
) -> tuple[PromptSamples, ...]:
    """The first `most` prompts of the lowest seed, with the samples of each of `arms` in a few generations."""
    shown = group.arms if arms is None else tuple(arms)
    seed = min(entry.seed for entry in group.entries)
    generations = first_middle_last(group.generations())
    texts: dict[tuple[int, str], list[SampleText]] = {
        (entry.generation, entry.arm): read_samples(entry, view, most=most)
        for entry in group.entries
        if entry.seed == seed and entry.generation in generations and entry.arm in shown
    }
    count = max((len(samples) for samples in texts.values()), default=0)
    return tuple(_prompt(n, texts, generations, shown) for n in range(count))


def _prompt(
    n: int, texts: dict[tuple[int, str], list[SampleText]], generations: tuple[int, ...], arms: tuple[str, ...]
) -> PromptSamples:
    prompt = next(samples[n].prompt for samples in texts.values() if len(samples) > n)

    def text_of(generation: int, arm: str) -> str | None:
        samples = texts.get((generation, arm), [])
        return samples[n].text if len(samples) > n else None

    rows = [(generation, tuple(text_of(generation, arm) for arm in arms)) for generation in generations]
    rows = [(generation, row) for generation, row in rows if any(cell is not None for cell in row)]
    return PromptSamples(n + 1, prompt, tuple(generation for generation, _ in rows), tuple(row for _, row in rows))


def read_samples(entry: Entry, view: str, *, most: int) -> list[SampleText]:
    """The first `most` texts of `entry` by the decoder `view`; empty where it has none."""
    file = entry.directory.samples / view / "text.jsonl"
    return list(islice(_lines(file), most)) if file.is_file() else []


def _lines(file: Path) -> Iterator[SampleText]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                tree = json.loads(line)
            except (ValueError, RecursionError):
                tree = {"text": line}
            tree = tree if isinstance(tree, dict) else {"text": line}
            yield SampleText(_visible(tree.get("prompt", "")), _visible(tree.get("text", "")))


def _visible(sample: object) -> str:
    # Shortened before escaping, so that no escape sequence is split.
    return visible(excerpt(str(sample), LONGEST))


def plot_images(group: ArmGroup, arms: Sequence[str], name: str) -> Figure | None:
    """One row of the same first draws per generation, arms below each other, of the first seed; pixels not smoothed."""
    stored = {arm: _of_first_seed(group, arm) for arm in arms}
    stored = {arm: rows for arm, rows in stored.items() if rows}
    if not stored:
        return None
    side = (WIDTH - _IMAGES_LEFT - _IMAGES_GAP * (_IMAGES_PER_ROW - 1)) / _IMAGES_PER_ROW
    parts: list[str] = []
    y = 16.0
    for arm, rows in stored.items():
        parts.append(text(0, y, label(arm, 40), f"lab {group.roles[arm].css}"))
        y += 8
        for generation in first_middle_last(sorted(rows), _IMAGE_GENERATIONS):
            images = rows[generation][:_IMAGES_PER_ROW]
            tall = side * images.shape[1] / images.shape[2]
            parts.append(text(_IMAGES_LEFT - 8, y + tall / 2 + 5, f"gen. {generation}", "axis", "end"))
            parts += [
                image(_IMAGES_LEFT + n * (side + _IMAGES_GAP), y, side, tall, pixels) for n, pixels in enumerate(images)
            ]
            y += tall + 4
        y += 24
    count = max(len(images[:_IMAGES_PER_ROW]) for rows in stored.values() for images in rows.values())
    title = "What the models generate"
    return Figure(
        name,
        title,
        f"The first {count} images of the first seed in each generation: the same draws in every row, not a selection.",
        f"{title}: {count} images in each generation of {', '.join(stored)}.",
        y - 26,
        "".join(parts),
    )


def _of_first_seed(group: ArmGroup, arm: str) -> dict[int, Images]:
    entries = group.entries_of(arm)
    images = {e.generation: _images(e) for e in entries if e.seed == entries[0].seed}
    return {generation: array for generation, array in images.items() if array is not None}


def _images(entry: Entry) -> Images | None:
    """The first images of `entry` by the common decoder, if its file holds any."""
    file = entry.directory.samples / "common" / "images.npy"
    if not file.is_file():
        return None
    try:
        stored = np.load(file, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    fits = (
        stored.dtype == np.uint8 and stored.ndim == 3 and 0 not in stored.shape and max(stored.shape[1:]) <= _MAX_SIDE
    )
    return np.array(stored[:_IMAGES_PER_ROW]) if fits else None


@dataclass(frozen=True)
class Tail:
    """Counts of the tail's items in samples, beside real ones, and the share of the seeds in which an item is alive."""

    kind: str
    real: Sequence[float]
    counts: Sequence[float]
    alive: Sequence[float]
    names: Sequence[str]


def pooled_tails(group: ArmGroup, arm: str) -> dict[int, Tail]:
    """The tail of each generation, all seeds together; only generations that every seed recorded."""
    entries = group.entries_of(arm)
    seeds = len({entry.seed for entry in entries})
    by_generation: dict[int, list[Tail]] = {}
    for entry in entries:
        if tail := _read_tail(entry.tables.get("tail")):
            by_generation.setdefault(entry.generation, []).append(tail)
    return {
        generation: _pool_tails(tails)
        for generation, tails in sorted(by_generation.items())
        if len(tails) == seeds and len({(tail.kind, len(tail.counts)) for tail in tails}) == 1
    }


def _read_tail(table: Any) -> Tail | None:
    if not isinstance(table, Mapping) or table.get("kind") not in _TAIL_TITLES:
        return None
    real, counts = _numbers(table.get("real")), _numbers(table.get("counts"))
    least = _numbers(table.get("least", [0.0] * len(counts)))
    names = table.get("names", [""] * len(counts))
    if not counts or not isinstance(names, list) or {len(real), len(least), len(names)} != {len(counts)}:
        return None
    alive = [float(count >= max(1.0, limit)) for count, limit in zip(counts, least, strict=True)]
    return Tail(str(table["kind"]), real, counts, alive, [str(name) for name in names])


def _numbers(column: Any) -> list[float]:
    """The column as finite numbers >= 0; empty if it holds anything else."""
    if not isinstance(column, list) or not all(isinstance(v, int | float) and 0 <= v < 1e300 for v in column):
        return []
    return [float(value) for value in column]


def _pool_tails(tails: Sequence[Tail]) -> Tail:
    def total(columns: Sequence[Sequence[float]]) -> list[float]:
        return [sum(values) for values in zip(*columns, strict=True)]

    real, counts, alive = (total([getattr(tail, key) for tail in tails]) for key in ("real", "counts", "alive"))
    return Tail(tails[0].kind, real, counts, [seeds / len(tails) for seeds in alive], tails[0].names)


def plot_tail(group: ArmGroup, arms: Sequence[str], name: str) -> Figure | None:
    """The strips of `arms` at the first, a middle and the last generation; None where none has a tail."""
    tails = {arm: pooled_tails(group, arm) for arm in arms}
    tails = {arm: tail for arm, tail in tails.items() if tail}
    if not tails:
        return None
    first = next(iter(next(iter(tails.values())).values()))
    if len(first.counts) > _MAX_ITEMS:
        return None
    title, axis, participle = _TAIL_TITLES[first.kind]
    items = f"the {len(first.counts)} {axis}" if first.kind != "words" else axis
    parts = [text(_LEFT, 13, items, "axis"), text(WIDTH, 13, participle, "axis", "end")]
    shares = {arm: {g: _bar_heights(tail) for g, tail in row.items()} for arm, row in tails.items()}
    top = max((h for row in shares.values() for heights in row.values() for h in heights), default=1.0) or 1.0
    y = 33.0
    findings = []
    for arm, row in tails.items():
        role = group.roles[arm].css
        parts.append(text(0, y + 3, label(arm, 40), f"lab {role}"))
        ground = y + 8 + _BAR_HEIGHT + 4
        generations = first_middle_last(sorted(row))
        for generation in generations:
            tail = row[generation]
            parts.append(text(_LEFT - 8, ground, f"gen. {generation}", "axis", "end"))
            parts.append(_strip(tail, shares[arm][generation], top, ground, role))
            parts.append(text(WIDTH, ground, _left_over(tail), f"sig {role}", "end"))
            ground += _TAIL_ROW
        findings.append(f"{arm}: {_left_over(row[generations[0]])} to {_left_over(row[generations[-1]])}")
        y = ground - _TAIL_ROW + 23
    seeds = max(len({entry.seed for entry in group.entries_of(arm)}) for arm in tails)
    return Figure(name, title, _tail_note(first.kind, seeds), f"{title}. {'; '.join(findings)}.", y - 8, "".join(parts))


def _bar_heights(tail: Tail) -> list[float]:
    if tail.kind == "words":
        return [count / real if real else 0.0 for count, real in zip(tail.counts, tail.real, strict=True)]
    total = sum(tail.counts) or 1.0
    return [math.sqrt(count / total) for count in tail.counts]


def _strip(tail: Tail, heights: Sequence[float], top: float, ground: float, role: str) -> str:
    step = (_RIGHT - _LEFT) / len(heights)
    width = max(1.0, step - max(1.0, 0.12 * step))
    parts = []
    for n, (height, alive, count) in enumerate(zip(heights, tail.alive, tail.counts, strict=True)):
        x = _LEFT + n * step
        if count <= 0:
            parts.append(path([(x, ground - 0.6), (x + width, ground - 0.6)], "gone"))
        else:
            size = max(1.5, _BAR_HEIGHT * height / top)
            parts.append(rect(x, ground - size, width, size, f"bar {role}" if alive >= 0.5 else f"bar pale {role}"))
    return "".join(parts)


def _left_over(tail: Tail) -> str:
    if tail.kind == "words":
        return formatting.percent(sum(tail.counts) / max(1.0, sum(tail.real)))
    return f"{sum(tail.alive):.1f}".removesuffix(".0") + f" of {len(tail.counts)}"


def _tail_note(kind: str, seeds: int) -> str:
    pooled, rarely, beside = "one seed", "", ""
    if seeds > 1:
        pooled, rarely = f"{seeds} seeds together", " in most seeds"
        beside = {"people": "named", "modes": "alive", "classes": "alive"}.get(kind, "")
        beside = f" Beside: how many are {beside} in a seed, on average." if beside else ""
    heights = "bar height: square root of the share; a dash: none"
    lead, tail = {
        "people": (
            "Samples that name each invented person",
            f"{heights}{'; pale: not named in most seeds' if seeds > 1 else ''}. Real documents follow Zipf’s law, so "
            "people to the right are rare.",
        ),
        "modes": ("Samples at each mode", f"{heights}; pale: below a fifth of the true share{rarely}, so not alive."),
        "classes": (
            "Generated images that a classifier assigns to each class",
            f"{heights}; pale: 1 % or less{rarely}, so not alive.",
        ),
        "words": (
            "Share of the words of each frequency band that the samples hold",
            "bands from over 100 times in real text to once.",
        ),
    }[kind]
    return f"{lead}, {pooled}; {tail}{beside}"
