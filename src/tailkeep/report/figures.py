"""Every figure of a run: which there are, under which names, with whose pens.

Rule: an arm keeps its pen through all groups, and a figure without a finite number is left out.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tailkeep.report.curves import curve
from tailkeep.report.drawing import Drawing, Pen, Rendered, pen, render
from tailkeep.report.facets import facets
from tailkeep.report.leaderboard import leaderboard
from tailkeep.report.maps import choice_map
from tailkeep.report.pictures import pictures
from tailkeep.report.reading import Group, Reading
from tailkeep.report.shapes import confidence, density, points
from tailkeep.report.vocabulary import further_names, headline_names


@dataclass(frozen=True)
class GroupFigures:
    """The figures of one learner: arms compared, headline and other curves, distributions and images by arm."""

    compared: tuple[Rendered, ...]
    headline: tuple[Rendered, ...]
    further: tuple[Rendered, ...]
    shapes: tuple[Rendered, ...]
    pictures: tuple[Rendered, ...]

    @property
    def all(self) -> tuple[Rendered, ...]:
        """Every figure, in the order of the page."""
        return (*self.compared, *self.headline, *self.shapes, *self.pictures, *self.further)


def pens_of(reading: Reading) -> dict[str, Pen]:
    """The pen of each arm, by its place in the config."""
    return {arm: pen(place) for place, arm in enumerate(reading.arms)}


def draw(reading: Reading) -> tuple[GroupFigures, ...]:
    """All figures, group by group."""
    pens, names = pens_of(reading), _Names()
    return tuple(_group(group, reading.grid, pens, names) for group in reading.groups)


def _group(group: Group, grid: Mapping[str, tuple[str, ...]], pens: Mapping[str, Pen], names: "_Names") -> GroupFigures:
    def curves(metrics: tuple[str, ...]) -> Iterator[Drawing | None]:
        for metric in metrics:
            name = names.new(group.learner, metric)
            # The lines of a grid's arms in one panel could not be told apart.
            yield facets(group, grid, metric, name) or curve(group, metric, pens, name)

    def shapes(kind: Callable[[Group, str, Pen, str], Drawing | None], word: str) -> Iterator[Drawing | None]:
        return (kind(group, arm, pens[arm], names.new(group.learner, word, arm)) for arm in group.arms)

    def compared(metrics: tuple[str, ...]) -> Iterator[Drawing | None]:
        for metric in metrics:
            name = names.new(group.learner, "map" if grid else "against-first", metric)
            yield choice_map(group, grid, metric, name) if grid else leaderboard(group, metric, name)

    headline = headline_names(group.names)
    by_arm = (("confidence", confidence), ("density", density), ("points", points))
    return GroupFigures(
        _rendered(compared(headline)),
        _rendered(curves(headline)),
        _rendered(curves(further_names(group.names))),
        _rendered(drawing for word, kind in by_arm for drawing in shapes(kind, word)),
        _rendered(shapes(pictures, "images")),
    )


def _rendered(drawings: Iterator[Drawing | None]) -> tuple[Rendered, ...]:
    return tuple(render(drawing) for drawing in drawings if drawing is not None)


class _Names:
    """File names, each given once: what a learner or metric is called may hold anything, a file name may not."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, *words: str) -> str:
        base = "-".join(re.sub(r"[^a-z0-9_.]+", "-", word.lower()).strip("-.")[:60] or "x" for word in words)
        name, number = base, 1
        while name in self._given:
            number += 1
            name = f"{base}-{number}"
        self._given.add(name)
        return name
