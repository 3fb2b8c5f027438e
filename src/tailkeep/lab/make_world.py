"""`tailkeep world`: the embedded world on disk, so that every command can be tried without a download."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailkeep.config import validate
from tailkeep.data import World, WorldConfig, write_questions
from tailkeep.errors import InputError
from tailkeep.lab.config import parse
from tailkeep.lab.learners import Extensions, build_experiment, load_libraries
from tailkeep.runs import Storage
from tailkeep.workers import limited_threads

PRIOR = {
    "learner": "causal_lm",
    "generations": 1,
    "model": {
        "name": "scratch",
        "type": "llama",
        "config": {
            "hidden_size": 64,
            "intermediate_size": 172,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
        },
    },
    "tokenizer": {"train": {"vocab_size": 768}},
    "training": {"block": 64, "batch": 8, "epochs": 8, "learning_rate": 3e-3},
}
"""The study whose generation 0 is the small prior; the packaged `demo` starts from the same settings."""


def _unheard(line: str) -> None:
    del line


def write_world(
    out: Path,
    overrides: Mapping[str, Any],
    *,
    prior: bool = True,
    tell: Callable[[str], None] = _unheard,
    storage: Storage | None = None,
) -> Sequence[Path]:
    """Write corpus.txt, held_out.txt, kr_test.json and, if asked, prior/ into the folder `out`.

    `overrides` are keys of the world, such as {"people": 100}; `tell` is told of what takes long before it starts.

    Raises:
        ConfigError: a key or value the world does not know.
        InputError: `out` holds other things.
    """
    config = validate(WorldConfig, overrides, source="world")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty. Give a new or an empty folder.")
    world = World(config)
    storage = storage or Storage()
    storage.write_folder(out, lambda folder: _fill(folder, world, prior, tell))
    return sorted(out.iterdir())


def _fill(folder: Path, world: World, prior: bool, tell: Callable[[str], None]) -> None:
    (folder / "corpus.txt").write_text("\n".join(world.corpus()) + "\n", encoding="utf-8")
    (folder / "held_out.txt").write_text("\n".join(world.held_out()) + "\n", encoding="utf-8")
    write_questions(folder / "kr_test.json", world.questions())
    if prior:
        _train_prior(folder / "prior", world.config, tell)


def _train_prior(folder: Path, world: WorldConfig, tell: Callable[[str], None]) -> None:
    config = parse({**PRIOR, "data": {"name": "world", **world.model_dump()}}, {}, name="world")
    study = config.arms["baseline"]
    load_libraries([study])
    tell(f"training a small prior on {world.documents} documents (about half a minute for 1000) ...")
    with limited_threads(config.num_threads):
        subject = build_experiment(study, seed=0, device=config.device, extensions=Extensions(), shared={})
        model = subject.learner.fit(subject.real, seed=0, budget=subject.real.units)
        folder.mkdir()
        model.save(folder)
