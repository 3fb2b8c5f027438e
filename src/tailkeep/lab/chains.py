"""What the models of a finished run wrote, chain by chain, beside the real data that the first one was trained on.

Rule: a chain is read from `generated/` and the configuration alone; no model is loaded, nothing is trained or sampled.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.config import CausalLMArm
from tailkeep.lab.config import AnyArm, load
from tailkeep.lab.mixture import MixtureArm
from tailkeep.lab.regimes import Mix, Regenerate, Weighted
from tailkeep.lab.toy_data import Floats, ModesWorld
from tailkeep.runs import RunDirectory
from tailkeep.runs.generation_dir import GenerationDir

Labels = Sequence[Sequence[int]]
"""For each document, the items that it states."""


@dataclass(frozen=True)
class WrittenChain:
    """One chain. `regenerate` has the first part of the real data alone, whose descent its rounds begin with.

    Attributes:
        run, arm, seed: the name of the run's configuration, of the arm, and the seed.
        regime: its name in the configuration; `real_share` of `mix` and `weighted`, else 0.
        decoder: sampled, truncated or deterministic; unknown for the user's own, "none" for numbers.
        texts: the real documents, then those of each round; empty for numbers.
        labels: items by kind, such as facts or modes, of the real data and of each round.
    """

    run: str
    arm: str
    seed: int
    regime: str
    real_share: float
    decoder: str
    texts: Sequence[Sequence[str]] = ()
    labels: Mapping[str, Sequence[Labels]] = field(default_factory=dict)


@dataclass(frozen=True)
class SkippedChain:
    """A chain that gives nothing to forecast, and the `reason`, such as `learner vae`."""

    arm: str
    seed: int
    reason: str

    @property
    def line(self) -> str:
        """Chain and reason."""
        return f"{self.arm}, seed {self.seed} ({self.reason})"


def read_chains(path: Path) -> tuple[list[WrittenChain], list[SkippedChain]]:
    """The chains of the run at `path` with at least two rounds, of language models and of mixtures, and the others.

    Raises:
        InputError: it is no run of the laboratory, has no such chain, or is damaged.
    """
    directory = RunDirectory.open(path)
    if directory.record.kind != "lab":
        raise InputError(f"{path} holds a run of kind {directory.record.kind!r}. Give a run of tailkeep lab.")
    if directory.record.packed:
        raise InputError(f"{path} holds a pack, which has no generated data. Give the run that was packed.")
    if not directory.config_text():
        raise InputError(f"{path} holds no config.yaml. Run the same lab command again, which writes it.")
    config = load(path / "config.yaml")
    chains: list[WrittenChain] = []
    skipped: list[SkippedChain] = []
    for name, arm in config.arms.items():
        for seed in config.seeds:
            dirs = list(_rounds(directory, name, arm, seed))
            if not isinstance(arm, CausalLMArm | MixtureArm):
                skipped.append(SkippedChain(name, seed, f"learner {arm.learner}"))
            elif len(dirs) < 2:
                skipped.append(SkippedChain(name, seed, f"rounds of generated data: {len(dirs)}, 2 are needed"))
            elif isinstance(arm, MixtureArm) and isinstance(arm.regime, Regenerate):
                # Points carry no prompt, so no descent of the first part alone can be told from that of later ones.
                skipped.append(SkippedChain(name, seed, "a mixture whose real data arrive in parts"))
            elif isinstance(arm, MixtureArm):
                chains.append(_mode_chain(arm, dirs, config.name, name, seed))
            else:
                chains.append(_text_chain(arm, dirs, config.name, name, seed))
    if not chains:
        raise InputError(
            f"{path} has no chain of a language model or a mixture with two rounds of generated data: "
            f"{'; '.join(chain.line for chain in skipped)}. Give a run with generations of 3 or more and "
            "record_every 1."
        )
    return chains, skipped


def _rounds(directory: RunDirectory, arm_name: str, arm: AnyArm, seed: int) -> Iterator[GenerationDir]:
    """The folders of generations 1, 2, ... up to the first that is not finished or did not record what it was given."""
    for generation in range(1, arm.generations):
        generation_dir = directory.generation_dir(arm_name, seed, generation)
        if not generation_dir.done or not (generation_dir.generated / str(generation)).is_dir():
            return
        yield generation_dir


def _regime(arm: AnyArm) -> tuple[str, float]:
    regime = arm.regime
    if isinstance(regime, Mix):
        return regime.name, regime.real_share
    return regime.name, regime.weight if isinstance(regime, Weighted) else 0.0


def decoder_kind(arm: Any) -> str:
    """That of the `decoder` of a `WrittenChain`."""
    decoder = arm.generation.decoder
    if decoder.name == "code":
        return "unknown"
    if decoder.name in {"greedy", "beam"}:
        return "deterministic"
    cuts = [getattr(decoder, key, None) for key in ("top_k", "top_p", "min_p")]
    return "truncated" if any(cut is not None for cut in cuts) else "sampled"


def _text_chain(arm: Any, dirs: Sequence[GenerationDir], run: str, name: str, seed: int) -> WrittenChain:
    from tailkeep.lab.causal_lm.dataset import read_dataset

    dataset = read_dataset(arm.data)
    real = [record.text for record in dataset.real]
    if isinstance(arm.regime, Regenerate):
        real = _first_part(real, arm.regime.fractions)
    texts = [real, *(read_written(generation_dir) for generation_dir in dirs)]
    labels = {}
    if dataset.world is not None:
        world, size = dataset.world, dataset.world.config.attributes
        labels["facts"] = [
            [
                [statement.person * size + statement.attribute for statement in world.parse(text).statements
                 if statement.truth == "true" and statement.person is not None]
                for text in documents
            ]
            for documents in [real, *(read_written(generation_dir, with_prompts=True) for generation_dir in dirs)]
        ]  # fmt: skip
    return WrittenChain(run, name, seed, *_regime(arm), decoder_kind(arm), texts, labels)


def _first_part(real: Sequence[str], fractions: int) -> list[str]:
    """The first of `fractions` parts, cut at the nearest end of a document by characters."""
    ends = np.cumsum([len(text) for text in real])
    return list(real[: int(np.abs(ends - ends[-1] / fractions).argmin()) + 1])


def read_written(generation_dir: GenerationDir, *, with_prompts: bool = False) -> list[str]:
    """What the model wrote; a fact may have its subject in the prompt."""
    path = generation_dir.generated / str(generation_dir.generation) / "text.jsonl"
    generation_dir.check_generated()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        documents = [json.loads(line) for line in lines if line]
        return [(document["prompt"] if with_prompts else "") + document["text"] for document in documents]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}. Run the same lab command again.") from None


def _mode_chain(arm: MixtureArm, dirs: Sequence[GenerationDir], run: str, name: str, seed: int) -> WrittenChain:
    world = arm.data
    values = [world.draw(seed).values]
    values += [_read_values(generation_dir) for generation_dir in dirs]
    modes = {"modes": [_modes_of(points, world) for points in values]}
    return WrittenChain(run, name, seed, *_regime(arm), "none", labels=modes)


def _read_values(generation_dir: GenerationDir) -> Floats:
    path = generation_dir.generated / str(generation_dir.generation) / "values.npy"
    generation_dir.check_generated()
    try:
        values: Floats = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}. Run the same lab command again.") from None
    if values.ndim != 2 or values.dtype != np.float64:
        raise InputError(f"{path}: no table of numbers, got {values.dtype} {values.shape}. Run the command again.")
    return values


def _modes_of(points: Floats, world: ModesWorld) -> Labels:
    """The nearest mode of each point, none beyond `reach`."""
    distances = np.linalg.norm(points[:, None] - world.centres, axis=2)
    nearest = distances.argmin(axis=1)
    inside = distances[np.arange(len(points)), nearest] <= world.reach
    return [[mode] if near else [] for mode, near in zip(nearest.tolist(), inside.tolist(), strict=True)]
