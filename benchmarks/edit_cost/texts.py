"""Fresh text of any size, without repeated documents.

Rule: first the texts of TAILKEEP_DATA, then documents of embedded worlds, each with another seed; without TAILKEEP_DATA
the worlds alone. Documents go to the units in turn, so that every unit is the same mixture.
"""

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from tailkeep.data import World, WorldConfig

STORIES_END = "<|endoftext|>"
_HUMAN = ("wikitext2_train_prefix.txt", "wikitext2_valid.txt", "tinyshakespeare.txt", "moby_dick.txt")
_MIN_CHARACTERS = 40
_DOCUMENTS_PER_WORLD = 5_000


def data_folder() -> Path | None:
    """The folder of the real texts and priors, None if TAILKEEP_DATA is unset."""
    named = os.environ.get("TAILKEEP_DATA")
    return Path(named) if named and Path(named).is_dir() else None


def human_documents() -> Iterator[str]:
    """Lines of human text, without those too short for a document."""
    folder = data_folder()
    for name in _HUMAN if folder else ():
        assert folder is not None
        for line in (folder / "text" / name).read_text(encoding="utf-8").split("\n"):
            if len(text := " ".join(line.split())) >= _MIN_CHARACTERS:
                yield text


def world_documents() -> Iterator[str]:
    """An endless stream of invented biographies; people, values and their order are new in each world."""
    seed = 0
    while True:
        seed += 1
        config = WorldConfig(
            seed=seed,
            people=1000,
            attributes=8,
            values=500,
            phrasings=6,
            people_exponent=0,
            values_exponent=0,
            phrasings_exponent=0,
            min_sentences=3,
            max_sentences=8,
        )
        yield from World(config).sample(_DOCUMENTS_PER_WORLD, np.random.default_rng(seed))


def write_units(folder: Path, *, units: int, unit_bytes: int) -> list[Path]:
    """Write `units` files of about `unit_bytes` each, one document per line."""
    paths = [folder / f"{number:04}.txt" for number in range(units)]
    folder.mkdir(parents=True)
    seen: set[int] = set()
    human = list(human_documents())
    # The same number of human documents in each unit, at most half of it.
    shared = human[: _fitting(human, units * unit_bytes // 2) // units * units]
    worlds = world_documents()
    for number, path in enumerate(paths):
        with path.open("w", encoding="utf-8", newline="") as file:
            held = 0
            for document in chain(shared[number::units], worlds):
                if hash(document) in seen:
                    continue
                seen.add(hash(document))
                held += file.write(document + "\n")
                if held >= unit_bytes:
                    break
    return paths


def _fitting(documents: list[str], size: int) -> int:
    """The number of first documents that have at most `size` bytes."""
    ends = np.cumsum([len(document) + 1 for document in documents] or [0])
    return int(np.searchsorted(ends, size)) if documents else 0
