"""Images that an arm's models draw, as a grid a generation side by side.

Rule: a file that holds no images of 8 bits is not drawn; the numbers beside it still are.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailkeep.report.drawing import MUTED, SMALL, Drawing, Pen, canvas
from tailkeep.report.reading import Entry, Group
from tailkeep.report.texts import first_middle_last

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 10
_MOST_GENERATIONS = 5
_COLUMNS = 3
_GAP = 1
_GAP_GREY = 48
_LARGEST = 128
# A browser smooths an image that it enlarges, so small ones are enlarged here.
_PIXELS = 560

Images = NDArray[np.uint8]


def pictures(group: Group, arm: str, pen: Pen, name: str) -> Drawing | None:
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
