"""The samples of an arm, generation by generation: texts, and rows of images.

Rule: samples come from a model trained on a corpus, so nothing in them is interpreted. Texts are shortened and made
visible; a file that holds no 8-bit images is not drawn.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.svg import WIDTH, Figure, image, label, text
from tailkeep.runs import redact
from tailkeep.sanitize import visible

LONGEST = 600
_TEXT_GENERATIONS = 3
_IMAGE_GENERATIONS = 5
_IN_ROW, _IMAGES_LEFT, _IMAGES_GAP = 14, 56.0, 4.0
_MAX_SIDE = 128

Images = NDArray[np.uint8]


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

    def text(generation: int, arm: str) -> str | None:
        samples = texts.get((generation, arm), [])
        return samples[n].text if len(samples) > n else None

    rows = [(generation, tuple(text(generation, arm) for arm in arms)) for generation in generations]
    rows = [(generation, row) for generation, row in rows if any(cell is not None for cell in row)]
    return PromptSamples(n + 1, prompt, tuple(generation for generation, _ in rows), tuple(row for _, row in rows))


def read_samples(entry: Entry, view: str, *, most: int) -> list[SampleText]:
    """The first `most` texts of `entry` by the decoder `view`; empty where it has none."""
    path = entry.directory.samples / view / "text.jsonl"
    return list(islice(_lines(path), most)) if path.is_file() else []


def _lines(path: Path) -> Iterator[SampleText]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                tree = json.loads(line)
            except (ValueError, RecursionError):
                tree = {"text": line}
            tree = tree if isinstance(tree, dict) else {"text": line}
            yield SampleText(_visible(tree.get("prompt", "")), _visible(tree.get("text", "")))


def _visible(text: object) -> str:
    # Shortened before escaping, so that no escape sequence is split.
    whole = redact(str(text))
    return visible(whole[:LONGEST]) + (" …" if len(whole) > LONGEST else "")


def plot_images(group: ArmGroup, arms: Sequence[str], name: str) -> Figure | None:
    """One row of the same first draws per generation, arms below each other, of the first seed; pixels not smoothed."""
    stored = {arm: _of_first_seed(group, arm) for arm in arms}
    stored = {arm: rows for arm, rows in stored.items() if rows}
    if not stored:
        return None
    side = (WIDTH - _IMAGES_LEFT - _IMAGES_GAP * (_IN_ROW - 1)) / _IN_ROW
    parts: list[str] = []
    y = 16.0
    for arm, rows in stored.items():
        parts.append(text(0, y, label(arm, 40), f"lab {group.roles[arm].css}"))
        y += 8
        for generation in first_middle_last(sorted(rows), _IMAGE_GENERATIONS):
            images = rows[generation][:_IN_ROW]
            tall = side * images.shape[1] / images.shape[2]
            parts.append(text(_IMAGES_LEFT - 8, y + tall / 2 + 5, f"gen. {generation}", "axis", "end"))
            parts += [
                image(_IMAGES_LEFT + n * (side + _IMAGES_GAP), y, side, tall, pixels) for n, pixels in enumerate(images)
            ]
            y += tall + 4
        y += 24
    count = max(len(images[:_IN_ROW]) for rows in stored.values() for images in rows.values())
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
    path = entry.directory.samples / "common" / "images.npy"
    if not path.is_file():
        return None
    try:
        stored = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    fits = (
        stored.dtype == np.uint8 and stored.ndim == 3 and 0 not in stored.shape and max(stored.shape[1:]) <= _MAX_SIDE
    )
    return np.array(stored[:_IN_ROW]) if fits else None
