"""A corpus of invented people that is large enough to pair sentences in."""

import numpy as np

from tailkeep.kr_test.corpus import AnnotatedDocument

FIRST = [name + ending for name in ("Abe", "Bra", "Cor", "Dor") for ending in "lmno"]
TOWNS = ["Arden", "Bodel", "Cambo", "Delft", "Eborn", "Fynal", "Goral", "Halde"]
JOBS = ["baker", "miner", "nurse", "tailor", "clerk"]


def document(number, seed=0):
    rng = np.random.default_rng([seed, number])
    person, town, year, job = rng.choice(FIRST), rng.choice(TOWNS), int(rng.integers(1800, 1990)), rng.choice(JOBS)
    return (
        f"This tells of {person} and the craft number {number} of a {job}. "
        f"The {job} moved to {town} with a cart and a dog called {number}x. "
        f"There the {job} bought a little house in {year} from the widow {number}y."
    )


def documents(count=60):
    return [AnnotatedDocument(number, document(number)) for number in range(count)]


def write(path, count=60):
    path.write_text("".join(document(number) + "\n" for number in range(count)), encoding="utf-8")
    return path
