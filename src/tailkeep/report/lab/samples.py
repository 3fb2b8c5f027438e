"""Images that an arm's models draw, as a grid a generation side by side.

Rule: a file that holds no images of 8 bits is not drawn; the numbers beside it still are.
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


# Sample texts, generation by generation, cut short and made safe to show.
#
# Rule: samples come from a machine that learned from a corpus; nothing in them is ever interpreted.


LONGEST = 600
_SHOWN_GENERATIONS = 3


@dataclass(frozen=True)
class SampleText:
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


def views(group: ArmGroup) -> tuple[str, ...]:
    """The decoders of which some entry of `group` has texts, the common one first."""
    found = {
        folder.name
        for entry in group.entries
        if entry.cell.samples.is_dir()
        for folder in entry.cell.samples.iterdir()
        if (folder / "text.jsonl").is_file()
    }
    return tuple(sorted(found, key=lambda view: (view != "common", view)))


def prompts(group: ArmGroup, view: str, *, most: int) -> tuple[Prompt, ...]:
    """The first `most` prompts of the lowest seed, with what each arm wrote to them in a few generations."""
    seed = min(entry.seed for entry in group.entries)
    generations = first_middle_last(group.generations())
    read: dict[tuple[int, str], list[SampleText]] = {
        (entry.generation, entry.arm): samples(entry, view, most=most)
        for entry in group.entries
        if entry.seed == seed and entry.generation in generations
    }
    count = max((len(found) for found in read.values()), default=0)
    return tuple(_prompt(n, read, generations, group.arms) for n in range(count))


def _prompt(
    n: int, read: dict[tuple[int, str], list[SampleText]], generations: tuple[int, ...], arms: tuple[str, ...]
) -> Prompt:
    prompt = next(found[n].prompt for found in read.values() if len(found) > n)

    def text(generation: int, arm: str) -> str | None:
        found = read.get((generation, arm), [])
        return found[n].text if len(found) > n else None

    rows = [(generation, tuple(text(generation, arm) for arm in arms)) for generation in generations]
    written = [(generation, texts) for generation, texts in rows if any(t is not None for t in texts)]
    return Prompt(n + 1, prompt, tuple(g for g, _ in written), tuple(texts for _, texts in written))


def samples(entry: Entry, view: str, *, most: int) -> list[SampleText]:
    """The first `most` texts of `entry` through `view`; none where it has no text."""
    path = entry.cell.samples / view / "text.jsonl"
    return list(islice(_lines(path), most)) if path.is_file() else []


def _lines(path: Path) -> Iterator[SampleText]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                tree = json.loads(line)
            except ValueError:
                tree = {"text": line}
            tree = tree if isinstance(tree, dict) else {"text": line}
            yield SampleText(_shown(tree.get("prompt", "")), _shown(tree.get("text", "")))


def _shown(text: object) -> str:
    # Cut before the escapes are written, so that none is cut in two.
    whole = redact(str(text))
    return visible(whole[:LONGEST]) + (" …" if len(whole) > LONGEST else "")


_SIDE = 10
_MOST_GENERATIONS = 5
_COLUMNS = 3
_GAP = 1
_GAP_GREY = 48
_LARGEST = 128
# A browser smooths an image that it enlarges, so small ones are enlarged here.
_PIXELS = 560

Images = NDArray[np.uint8]


def pictures(group: ArmGroup, arm: str, pen: LineStyle, name: str) -> Drawing | None:
    """Up to 100 drawn images of the first seed at each of up to five generations, the first and the last among them."""
    del pen
    entries = group.of(arm)
    found = {e.generation: _images(e) for e in entries if e.seed == entries[0].seed}
    drawn = {generation: images for generation, images in found.items() if images is not None}
    chosen = {generation: drawn[generation] for generation in first_middle_last(sorted(drawn), _MOST_GENERATIONS)}
    if not chosen:
        return None
    count = max(map(len, chosen.values()))
    listed = ", ".join(map(str, chosen))
    return Drawing(
        name=name,
        title=f"Images of {arm}",
        caption=f"The first {count} images that the models of the first seed draw, at generation {listed}.",
        alt=f"{count} images that {arm} draws at each of the generations {listed}, in a grid.",
        build=lambda: _grids(chosen, arm),
    )


def mosaic(images: Images) -> Images:
    """(n, h, w) images, at most 100 of them, as one image: rows of ten with a grey line between."""
    _, height, width = images.shape
    shown = images[: _SIDE**2]
    rows = -(-len(shown) // _SIDE)
    tall, wide = height + _GAP, width + _GAP
    whole = np.full((rows * tall + _GAP, _SIDE * wide + _GAP), _GAP_GREY, dtype=np.uint8)
    for place, image in enumerate(shown):
        top, left = (n * size + _GAP for n, size in zip(divmod(place, _SIDE), (tall, wide), strict=True))
        whole[top : top + height, left : left + width] = image
    return whole


def _grids(chosen: dict[int, Images], arm: str) -> "Figure":
    rows = -(-len(chosen) // _COLUMNS)
    figure, panels = canvas(f"Images of {arm}", rows=rows, columns=_COLUMNS, width=8.0, height=2.75 * rows + 0.35)
    for panel in panels:
        panel.set_axis_off()
    for panel, (generation, images) in zip(panels, chosen.items(), strict=False):
        whole = mosaic(images)
        times = max(1, _PIXELS // max(whole.shape))
        panel.imshow(whole.repeat(times, 0).repeat(times, 1), cmap="gray", vmin=0, vmax=255, interpolation="none")
        panel.set_title(f"generation {generation}", fontsize=SMALL, color=MUTED)
    return figure


def _images(entry: Entry) -> Images | None:
    """The first images of `entry` through the common view, if its file holds any."""
    path = entry.cell.samples / "common" / "images.npy"
    if not path.is_file():
        return None
    try:
        stored = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    fits = stored.dtype == np.uint8 and stored.ndim == 3 and 0 not in stored.shape and max(stored.shape[1:]) <= _LARGEST
    return np.array(stored[: _SIDE**2]) if fits else None
