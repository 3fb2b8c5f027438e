"""Run directories with plausible numbers, made with `tailkeep.runs` and without a learner."""

import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tailkeep.report.lab.run import ArmGroup, read_lab_run
from tailkeep.runs import GenerationDir, RunDirectory, RunRecord

LANGUAGE_ARMS = ("cross-entropy", "truncated-0.90", "truncated-0.99", "accumulate")
HOSTILE_TEXT = "<script>alert(1)</script> $x^2$ \u202egnp.exe \x1b[31mred\x1b[0m [bold]not markup[/bold] &amp;"


@contextmanager
def new_run(
    path: Path, *, arms: Iterable[str], seeds: tuple[int, ...] = (0, 1, 2), generations: int, **config: Any
) -> Iterator[RunDirectory]:
    """A new run; an arm called mixture-... is short, as a recipe may say of one arm."""
    short = {"generations": 13, "record_every": 2}
    overrides: dict[str, Any] = {arm: {**short} if arm.startswith("mixture") else {} for arm in arms}
    tree = {"name": "run", "seeds": list(seeds), "generations": generations, "arms": overrides, **config}
    record = RunRecord.of("lab", {"config": tree}, installed={"tailkeep": "0.1.0", "python": "3.12.1"}, seeds=seeds)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    with RunDirectory.create(path, record, config=text) as run:
        yield run


def finish(
    cell: GenerationDir, metrics: Mapping[str, float], *, learner: str, tables: Mapping[str, Any] | None = None
) -> None:
    cell.path.mkdir(parents=True, exist_ok=True)
    cell.add_timing("train", 1.5)
    cell.add_timing("measure", 0.25)
    cell.write_metrics(metrics, tables or {}, learner=learner)
    cell.finish()


def write_texts(cell: GenerationDir, view: str, lines: Iterable[tuple[str, str]]) -> None:
    folder = cell.samples / view
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"prompt": prompt, "text": text}) for prompt, text in lines]
    (folder / "text.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def language_run(path: Path, *, seeds: tuple[int, ...] = (0, 1, 2), generations: int = 6) -> Path:
    """Four arms of a language model; cross-entropy collapses, accumulate hardly does. One seed is unfinished."""
    text = "Cross-entropy loses rare facts; truncating confident tokens, or keeping the data, slows it."
    with new_run(path, arms=LANGUAGE_ARMS, seeds=seeds, generations=generations, name="demo", description=text) as run:
        for index, arm in enumerate(LANGUAGE_ARMS):
            decay = (0.16, 0.09, 0.12, 0.02)[index]
            for seed in seeds:
                noise = random.Random(f"{arm} {seed}")
                for generation in range(generations):
                    cell = run.generation_dir(arm, seed, generation)
                    _language_cell(cell, decay * generation, noise)
        unfinished = run.generation_dir("accumulate", seeds[-1], generations - 1)
        (unfinished.path / "DONE").unlink()
    return path


def _language_cell(cell: GenerationDir, lost: float, noise: random.Random) -> None:
    def near(value: float, spread: float = 0.01) -> float:
        return value * (1 + noise.gauss(0, spread))

    metrics = {
        "train_units": 262144.0,
        "train_data_units": 31400.0,
        "train_nll": near(1.9 - lost),
        "kept_fraction": near(0.8) if "truncated" in cell.arm else 1.0,
        "held_out_nll": near(2.05 + 0.7 * lost),
        "kr_accuracy": near(0.9 - 0.3 * lost),
        "kr_items": 400.0,
    }
    for view in ("common", "own"):
        if view == "own" and cell.arm == "cross-entropy":
            continue
        metrics |= {
            f"{view}.distinct_{n}": near((0.06, 0.24, 0.43, 0.55)[n - 1] * (1 - 0.6 * lost)) for n in (1, 2, 3, 4)
        }
        metrics |= {
            f"{view}.own_perplexity": near(6.2 * math.exp(-lost)),
            f"{view}.kl_sample_real": near(0.05 + 0.3 * lost),
            f"{view}.kl_real_sample": near(0.08 + 0.5 * lost),
            f"{view}.mean_length": near(31.0),
            f"{view}.valid_share": near(0.7 - 0.2 * lost),
            f"{view}.true_share": near(0.82 - 0.4 * lost),
            f"{view}.rare_fact_coverage": near(0.74 * (1 - 1.1 * lost)),
            f"{view}.common_fact_coverage": near(0.95 * (1 - 0.2 * lost)),
            f"{view}.rare_phrasing_coverage": near(0.66 * (1 - 0.9 * lost)),
        }
    edges = [-7 + n / 2 for n in range(43)]
    real = [round(900 * math.exp(-(((n - 16) / 9) ** 2))) for n in range(42)]
    common = [round(900 * math.exp(-(((n - 16 - 20 * lost) / 9) ** 2))) for n in range(42)]
    people = [40 / (1 + n) for n in range(12)]
    counts = [round(count) if n < 12 - 14 * lost else 0 for n, count in enumerate(people)]
    tables = {
        "confidence": {"logit_edges": edges, "real": real, "common": common},
        "tail": {"kind": "people", "real": people, "counts": counts},
    }
    metrics |= {"common.people_named": float(sum(map(bool, counts))), "common.people_total": 12.0}
    for view in ("common", "own"):
        if any(name.startswith(view) for name in metrics):
            write_texts(cell, view, _texts(cell.generation, lost))
    finish(cell, metrics, learner="causal_lm", tables=tables)


def _texts(generation: int, lost: float) -> list[tuple[str, str]]:
    rich = "was born in Ostrel in the spring of the great flood. She kept bees, and later taught the viola at Marn."
    poor = "was born in Ostrel. She was born in Ostrel. She was born in Ostrel. She was born in Ostrel."
    text = rich if lost < 0.3 else poor
    return [
        ("Mara Tolvin", f"{text} (generation {generation})"),
        (
            "Once upon a time there was a small fox who",
            "lived by the river. One day\nit found a red boat, and it said nothing.",
        ),
        ("The clockmaker of Vessen", text.replace("Ostrel", "Vessen")),
        ("A fourth prompt", "that the page does not show."),
    ]


def numbers_run(path: Path) -> Path:
    """A Gaussian and a mixture in one run, three seeds, sparse generations."""
    arms = ("gaussian-ce", "gaussian-truncated", "mixture-ce", "mixture-accumulate")
    with new_run(
        path, arms=arms, generations=501, record_every=50, name="numbers", description="Numbers, not text."
    ) as run:
        for seed in (0, 1, 2):
            for generation in range(0, 501, 50):
                noise = random.Random(f"{seed} {generation}")
                _gaussian_cell(run.generation_dir("gaussian-ce", seed, generation), math.exp(-generation / 90), noise)
                floor = 0.57 + 0.43 * math.exp(-generation / 60)
                _gaussian_cell(run.generation_dir("gaussian-truncated", seed, generation), floor, noise)
            for generation in range(0, 13, 2):
                _mixture_cell(run.generation_dir("mixture-ce", seed, generation), max(3, 16 - generation), seed)
                _mixture_cell(
                    run.generation_dir("mixture-accumulate", seed, generation), max(14, 16 - generation // 3), seed
                )
    return path


def _gaussian_cell(cell: GenerationDir, std: float, noise: random.Random) -> None:
    std *= 1 + noise.gauss(0, 0.02)
    xs = [-4 + 0.1 * n for n in range(81)]

    def bell(x: float, s: float) -> float:
        return math.exp(-0.5 * (x / s) ** 2) / (s * math.sqrt(2 * math.pi))

    metrics = {
        "train_units": 100.0,
        "std_median": std,
        "std_mean": 1.1 * std,
        "variance_mean": std**2,
        "std_low": 0.8 * std,
        "std_high": 1.3 * std,
        "mean_abs_median": 0.3 * (1 - std) + 0.05,
        "kl_model_real_median": -math.log(std) + (std**2 + 0.01) / 2 - 0.5 + 1e-3,
        "dropped_share": 0.02,
        "guarded_share": 0.0,
    }
    density = {"x": xs, "model": [bell(x, std) for x in xs], "real": [bell(x, 1.0) for x in xs]}
    finish(cell, metrics, learner="gaussian", tables={"density": density})


def _mixture_cell(cell: GenerationDir, alive: int, seed: int) -> None:
    noise = random.Random(f"{cell.arm} {seed} {cell.generation}")
    centres = [(x, y) for x in range(4) for y in range(4)]
    points = [noise.choice(centres[:alive]) for _ in range(400)]
    tables = {
        "points": {
            "x": [x + noise.gauss(0, 0.1) for x, _ in points],
            "y": [y + noise.gauss(0, 0.1) for _, y in points],
        },
        "centres": {"x": [float(x) for x, _ in centres], "y": [float(y) for _, y in centres]},
        "tail": {
            "kind": "modes",
            "real": [25.0] * 16,
            "counts": [sum(point == centre for point in points) for centre in centres],
            "least": [5.0] * 16,
        },
    }
    metrics = {
        "train_units": 400.0,
        "modes_alive": alive + (seed - 1) * 0.5,
        "modes_total": 16.0,
        "held_out_nll": 1.2 + (16 - alive) * 0.4 + 0.02 * seed,
        "weight_distance": (16 - alive) / 16 + 0.01 * seed,
        "kl_real_sample": (16 - alive) / 10 + 0.01 * seed,
        "dropped_share": 0.0,
    }
    finish(cell, metrics, learner="mixture", tables=tables)


def hostile_run(path: Path) -> Path:
    """One seed, one generation, NaN and infinite metrics, no KR, and names and texts that try to be more than text."""
    name, long = HOSTILE_TEXT, "W" * 3000
    with new_run(
        path, arms=("a_1", "W" * 90, HOSTILE_TEXT), seeds=(7,), generations=1, name=name, description=name + long
    ) as run:
        for arm in ("a_1", "W" * 90):
            metrics = {
                "held_out_nll": math.nan if arm != "a_1" else 2.0,
                name: 1.0,
                "$\\frac{1}$": math.inf,
                "$x^2$": 4.0,
                "漢字": 3.0,
            }
            cell = run.generation_dir(arm, 7, 0)
            write_texts(cell, "common", [(name, name), (long, long), ("", "")])
            write_texts(cell, "\x1b<b>view", [(name, name)])
            broken = {
                "confidence": {"logit_edges": [0, 1], "real": ["<b>"], "common": None},
                "tail": {"kind": "people", "real": [1], "counts": [name]},
                "density": 3,
                "points": {"x": []},
            }
            finish(cell, metrics, learner="<img src=x onerror=alert(2)>", tables=broken)
    return path


def group_with(
    path: Path, tables: list[dict[str, Any]], seeds: int = 1, metrics: dict[str, float] | None = None
) -> ArmGroup:
    """A run of one arm in which generation -> its tables."""
    with new_run(path, arms=["a"], seeds=tuple(range(seeds)), generations=len(tables)) as run:
        for seed in range(seeds):
            for generation, table in enumerate(tables):
                cell = run.generation_dir("a", seed, generation)
                finish(cell, {"kr_accuracy": 0.9, **(metrics or {})}, learner="causal_lm", tables=table)
    return read_lab_run(path).groups[0]
