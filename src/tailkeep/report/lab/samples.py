"""The samples of an arm, generation by generation: texts, and grids of images.

Rule: samples come from a model trained on a corpus, so nothing in them is interpreted. Texts are shortened and made
visible; a file that holds no 8-bit images is not drawn.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailkeep.report.lab.run import ArmGroup, Entry
from tailkeep.report.svg import MUTED, SMALL, Drawing, LineStyle, canvas
from tailkeep.runs import redact
from tailkeep.sanitize import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 600
_TEXT_GENERATIONS = 3
_SIDE = 10
_IMAGE_GENERATIONS = 5
_COLUMNS = 3
_GAP = 1
_GAP_GREY = 48
_MAX_SIDE = 128
# A browser smooths an image that it enlarges, so small ones are enlarged here.
_PIXELS = 560

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class SampleText:
    """One text and the prompt that it continues, both made visible and at most `LONGEST` characters."""

    prompt: str
    text: str


@dataclass(frozen=True)
class PromptSamples:
    """The samples of one prompt: `texts[row][column]` is of `generations[row]` and the group's arm `column`."""

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


def read_prompts(group: ArmGroup, view: str, *, most: int) -> tuple[PromptSamples, ...]:
    """The first `most` prompts of the lowest seed, with the samples of each arm in a few generations."""
    seed = min(entry.seed for entry in group.entries)
    generations = first_middle_last(group.generations())
    texts: dict[tuple[int, str], list[SampleText]] = {
        (entry.generation, entry.arm): read_samples(entry, view, most=most)
        for entry in group.entries
        if entry.seed == seed and entry.generation in generations
    }
    count = max((len(samples) for samples in texts.values()), default=0)
    return tuple(_prompt(n, texts, generations, group.arms) for n in range(count))


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
            except ValueError:
                tree = {"text": line}
            tree = tree if isinstance(tree, dict) else {"text": line}
            yield SampleText(_visible(tree.get("prompt", "")), _visible(tree.get("text", "")))


def _visible(text: object) -> str:
    # Shortened before escaping, so that no escape sequence is split.
    whole = redact(str(text))
    return visible(whole[:LONGEST]) + (" …" if len(whole) > LONGEST else "")


def plot_images(group: ArmGroup, arm: str, line_style: LineStyle, name: str) -> Drawing | None:
    """Up to 100 generated images of the first seed at each of up to five generations, the first and last included."""
    del line_style
    entries = group.entries_of(arm)
    stored = {e.generation: _images(e) for e in entries if e.seed == entries[0].seed}
    images = {generation: array for generation, array in stored.items() if array is not None}
    shown = {generation: images[generation] for generation in first_middle_last(sorted(images), _IMAGE_GENERATIONS)}
    if not shown:
        return None
    count = max(map(len, shown.values()))
    listed = ", ".join(map(str, shown))
    return Drawing(
        name=name,
        title=f"Images of {arm}",
        caption=f"The first {count} images that the models of the first seed generate, at generation {listed}.",
        alt=f"{count} images that {arm} generates at each of the generations {listed}, in a grid.",
        build=lambda: _grids(shown, arm),
    )


def mosaic(images: Images) -> Images:
    """(n, h, w) images, at most 100 of them, as one image: rows of ten with a grey line between."""
    _, height, width = images.shape
    shown = images[: _SIDE**2]
    rows = -(-len(shown) // _SIDE)
    tall, wide = height + _GAP, width + _GAP
    whole = np.full((rows * tall + _GAP, _SIDE * wide + _GAP), _GAP_GREY, dtype=np.uint8)
    for index, image in enumerate(shown):
        row, column = (n * size + _GAP for n, size in zip(divmod(index, _SIDE), (tall, wide), strict=True))
        whole[row : row + height, column : column + width] = image
    return whole


def _grids(grids: dict[int, Images], arm: str) -> "Figure":
    rows = -(-len(grids) // _COLUMNS)
    figure, panels = canvas(f"Images of {arm}", rows=rows, columns=_COLUMNS, width=8.0, height=2.75 * rows + 0.35)
    for panel in panels:
        panel.set_axis_off()
    for panel, (generation, images) in zip(panels, grids.items(), strict=False):
        whole = mosaic(images)
        times = max(1, _PIXELS // max(whole.shape))
        panel.imshow(whole.repeat(times, 0).repeat(times, 1), cmap="gray", vmin=0, vmax=255, interpolation="none")
        panel.set_title(f"generation {generation}", fontsize=SMALL, color=MUTED)
    return figure


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
    return np.array(stored[: _SIDE**2]) if fits else None
