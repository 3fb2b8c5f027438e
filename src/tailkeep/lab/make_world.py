"""The embedded world on disk (`tailkeep world`): every command can be tried without a download.

Rule: the prior is trained as generation 0 of an ordinary laboratory arm, under a seed of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailkeep.config import validate
from tailkeep.data import World, WorldConfig, write_questions
from tailkeep.errors import InputError
from tailkeep.lab.arm import BuildContext
from tailkeep.lab.config import parse
from tailkeep.lab.learners import build_experiment, load_libraries
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
"""The arm whose generation 0 is the small prior; the recipe `demo` starts from the same settings."""


def _ignore(line: str) -> None:
    del line


def write_world(
    out: Path,
    overrides: Mapping[str, Any],
    *,
    prior: bool = True,
    on_status: Callable[[str], None] = _ignore,
    storage: Storage | None = None,
) -> Sequence[Path]:
    """Write corpus.txt, held_out.txt, kr_test.json and, with `prior`, prior/ into the folder `out`.

    `overrides` are keys of the world, such as {"people": 100}; `on_status` is called with a line of text
    before a slow step.

    Raises:
        ConfigError: a key or value that the world does not know.
        InputError: `out` is not empty.
    """
    config = validate(WorldConfig, overrides, source="world")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty. Give a new or an empty folder.")
    world = World(config)
    storage = storage or Storage()
    storage.write_folder(out, lambda folder: _fill(folder, world, prior, on_status))
    return sorted(out.iterdir())


def _fill(folder: Path, world: World, prior: bool, on_status: Callable[[str], None]) -> None:
    (folder / "corpus.txt").write_text("\n".join(world.corpus()) + "\n", encoding="utf-8")
    (folder / "held_out.txt").write_text("\n".join(world.held_out()) + "\n", encoding="utf-8")
    write_questions(folder / "kr_test.json", world.questions())
    if prior:
        _train_prior(folder / "prior", world.config, on_status)


def _train_prior(folder: Path, world: WorldConfig, on_status: Callable[[str], None]) -> None:
    config = parse({**PRIOR, "data": {"name": "world", **world.model_dump()}}, {}, name="world")
    arm = config.arms["baseline"]
    load_libraries([arm])
    on_status(f"training a small prior on {world.documents} documents (about half a minute for 1000) ...")
    with limited_threads(config.num_threads):
        experiment = build_experiment(arm, BuildContext(0, config.device))
        model = experiment.learner.fit(experiment.real, seed=0, budget=experiment.real.units)
        folder.mkdir()
        model.save(folder)
