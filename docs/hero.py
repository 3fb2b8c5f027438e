"""Draws the picture of the README from a finished run of the recipe `demo`. Nothing in it is typed in by hand.

    tailkeep lab demo --out RUN --set keep_models=all
    python docs/hero.py RUN docs/figures/hero.svg

Three panels: KR-test accuracy of three arms, which people the baseline still names, and how confident it is of its own
samples. The confidence is counted here, by the saved models; everything else is read from the run.
"""

import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tailkeep.data import WorldConfig
from tailkeep.data.world.population import build_population
from tailkeep.metrics import Interval, share_interval
from tailkeep.scoring import CausalLMScorer, Prior

WIDTH, HEIGHT = 1200, 420
TOP, BOTTOM = 98.0, 346.0
BASELINE = "baseline"
ROLES = {BASELINE: "base", "truncated": "trunc", "accumulate": "real"}
SHOWN_GENERATIONS = (0, 2, 4)
LOGIT_EDGES = np.arange(-7, 14.25, 0.5)
TICKS = (0.01, 0.5, 0.99, 0.9999)
STYLE = """
svg{--paper:#fff;--ink:#1c2024;--muted:#59616b;--hair:#dfe3e8;--first:#c9cfd6;--base:#24292f;--trunc:#d04a10;--real:#0a6fc0}
@media (prefers-color-scheme:dark){svg{--paper:#14171b;--ink:#eceff3;--muted:#a3abb5;--hair:#2f353c;--first:#434b55;
--base:#eceff3;--trunc:#ff7f45;--real:#6bb8ff}}
text{font:17px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--muted)}
.title{font-size:21px;font-weight:650;fill:var(--ink)}.label{font-weight:650;fill:var(--role)}
.quote{font:italic 16px Charter,"Iowan Old Style",Georgia,"Liberation Serif",serif;fill:var(--ink)}
.base{--role:var(--base)}.trunc{--role:var(--trunc)}.real{--role:var(--real)}
.paper{fill:var(--paper)}.grid{stroke:var(--hair);fill:none}.guide{stroke:var(--muted);stroke-dasharray:2 4;fill:none}
.tick,.none{stroke:var(--muted);stroke-width:1.5}.band{fill:var(--role);fill-opacity:.17}
.line{fill:none;stroke:var(--role);stroke-width:3.2;stroke-linejoin:round}.trunc.line{stroke-dasharray:9 4}
.marker{fill:var(--role);stroke:var(--paper);stroke-width:1.2}.bar{fill:var(--base)}.first{fill:var(--first)}
.halo{paint-order:stroke;stroke:var(--paper);stroke-width:5px;stroke-linejoin:round}
"""

Point = tuple[float, float]
Row = dict[str, Any]


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def stroke(points: Iterable[Point], kind: str, *, closed: bool = False) -> str:
    corners = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" d="M{corners}{"Z" if closed else ""}"/>'


def marker(role: str, x: float, y: float) -> str:
    shapes = {
        "base": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
        "trunc": f'<rect x="{x - 4.6:.1f}" y="{y - 4.6:.1f}" width="9.2" height="9.2"/>',
        "real": f'<path d="M{x:.1f} {y - 6.2:.1f}l6.2 10.8h-12.4z"/>',
    }
    return f'<g class="marker {role}">{shapes[role]}</g>'


def linear(domain: Point, target: Point) -> Callable[[float], float]:
    """The affine map of `domain` onto `target`; what lies beyond is drawn at the edge."""

    def scale(value: float) -> float:
        share = (min(max(value, domain[0]), domain[1]) - domain[0]) / (domain[1] - domain[0])
        return target[0] + share * (target[1] - target[0])

    return scale


@dataclass(frozen=True)
class Run:
    """What the picture needs of a run directory."""

    path: Path
    rows: Sequence[Row]
    config: Row

    @classmethod
    def read(cls, path: Path) -> "Run":
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return cls(path, rows, yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")))

    def last_generation(self) -> int:
        return max(row["generation"] for row in self.rows if row["arm"] == BASELINE)

    def values(self, arm: str, generation: int, metric: str) -> list[float]:
        """One value per seed."""
        return [row[metric] for row in self.rows if (row["arm"], row["generation"]) == (arm, generation)]

    def folders(self, generation: int) -> list[Path]:
        """The generation's folder of each seed of the baseline."""
        return sorted((self.path / "cells" / BASELINE).glob(f"*/{generation}"))

    def people(self) -> list[str]:
        data = self.config["arms"][BASELINE]["data"]
        world = build_population(WorldConfig(**{key: data[key] for key in WorldConfig.model_fields if key in data}))
        return [" ".join(name) for name in world.names]


def samples_of(folder: Path) -> list[str]:
    lines = (folder / "samples/common/text.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def own_log_probs(folder: Path) -> NDArray[np.float64]:
    """ln p of the tokens that the model in `folder` sampled, under itself."""
    ids, lengths, prompts = (np.load(folder / f"samples/common/{name}.npy") for name in ("ids", "lengths", "prompts"))
    rows = np.split(ids.astype(np.int64), np.cumsum(lengths)[:-1])
    if not (folder / "model").is_dir():
        sys.exit(f"{folder} has no model any more. Run the demo with --set keep_models=all.")
    scorer = CausalLMScorer(Prior(path=folder / "model", device="cpu"))
    scored = scorer.score(row for row in rows if len(row) > 1)
    starts = [max(prompt, 1) for prompt, row in zip(prompts.tolist(), rows, strict=True) if len(row) > 1]
    parts = [score.log_probs[start:] for start, score in zip(starts, scored, strict=True)]
    return np.concatenate(parts).astype(np.float64)


def accuracy_panel(run: Run, left: float, right: float) -> list[str]:
    last = run.last_generation()
    x = linear((0, last), (left + 42, right - 112))
    y = linear((0.4, 1), (BOTTOM, TOP))
    drawing = [words(left, 40, "What the model still knows", "title")]
    drawing.append(words(left, 66, f"KR-test accuracy, 95 % bands, {len(run.folders(0))} seeds"))
    bands, lines, labels = [], [], []
    for arm, role in ROLES.items():
        means = [share_interval(run.values(arm, g, "kr_accuracy")) for g in range(last + 1)]
        bands.append(band(means, x, y, role))
        lines.append(stroke([(x(g), y(mean.mean)) for g, mean in enumerate(means)], f"line {role}"))
        lines += [marker(role, x(g), y(mean.mean)) for g, mean in enumerate(means)]
        labels.append([y(means[-1].mean), arm, role, means[-1].mean])
    for value in (0.4, 0.6, 0.8, 1.0):
        drawing.append(stroke([(x(0), y(value)), (x(last), y(value))], "grid"))
        drawing.append(words(x(0) - 10, y(value) + 6, f"{value:.1f}", anchor="end"))
    drawing += bands
    drawing.append(stroke([(x(0), y(0.5)), (x(last), y(0.5))], "guide"))
    drawing.append(words(x(0) + 5, y(0.5) - 7, "guessing"))
    drawing += [words(x(g), BOTTOM + 25, str(g), anchor="middle") for g in range(last + 1)]
    drawing.append(words(x(last / 2), BOTTOM + 50, "generation", anchor="middle"))
    labels.sort()
    for upper, lower in itertools.pairwise(labels):
        missing = max(0.0, 42 - (lower[0] - upper[0]))
        upper[0], lower[0] = upper[0] - missing / 2, lower[0] + missing / 2
    for place, arm, role, value in labels:
        drawing.append(words(x(last) + 13, place, arm, f"label {role}"))
        drawing.append(words(x(last) + 13, place + 19, f"{value:.2f}", f"label {role}"))
    return drawing + lines


def band(means: Sequence[Interval], x: Callable[[float], float], y: Callable[[float], float], role: str) -> str:
    upper = [(x(g), y(mean.high)) for g, mean in enumerate(means)]
    lower = [(x(g), y(mean.low)) for g, mean in enumerate(means)]
    return stroke(upper + lower[::-1], f"band {role}", closed=True)


def samples_panel(run: Run, left: float, right: float) -> list[str]:
    people = run.people()
    drawing = [words(left, 40, "What the baseline writes", "title")]
    drawing.append(words(left, 66, f"mentions of {len(people)} people, {len(run.folders(0))} seeds together"))
    step = (right - left - 152) / len(people)
    for row, generation in enumerate(SHOWN_GENERATIONS):
        ground = 158.0 + 104 * row
        samples = [text for folder in run.folders(generation) for text in samples_of(folder)]
        counts = Counter(person for text in samples for person in people if person in text)
        for column, person in enumerate(people):
            x, height = left + column * step, 54 * math.sqrt(counts[person] / len(samples) / 0.3)
            if counts[person]:
                size = f'width="{step - 4:.1f}" height="{max(3, height):.1f}"'
                drawing.append(f'<rect class="bar" x="{x:.1f}" y="{ground - max(3, height):.1f}" {size}/>')
            else:
                drawing.append(stroke([(x, ground - 1), (x + step - 4, ground - 1)], "none"))
        named = sum(counts[person] > 0 for person in people)
        drawing.append(words(right, ground - 24, f"generation {generation}", anchor="end"))
        drawing.append(words(right, ground - 1, f"{named} of {len(people)} named", "label base", "end"))
        drawing.append(words(left, ground + 23, samples[0].split(". ")[0].rstrip(".") + ".", "quote"))
    return drawing


def confidence_panel(run: Run, left: float, right: float) -> list[str]:
    first, last = 0, run.last_generation()
    start = left + 52
    x = linear((LOGIT_EDGES[0], LOGIT_EDGES[-1]), (start, right))
    y = linear((0, 24), (BOTTOM, TOP))
    drawing = [words(left, 40, "How confident it is", "title"), words(left, 66, "share of its tokens, by probability")]
    for value in (0, 10, 20):
        drawing.append(stroke([(start, y(value)), (right, y(value))], "grid"))
        drawing.append(words(start - 10, y(value) + 6, f"{value} %", anchor="end"))
    shares = {}
    for generation, kind in ((first, "first"), (last, "line base")):
        log_probs = np.concatenate([own_log_probs(folder) for folder in run.folders(generation)])
        logits = np.clip(log_probs - np.log(-np.expm1(np.minimum(log_probs, -1e-12))), *LOGIT_EDGES[[0, -1]])
        counts, _ = np.histogram(logits, LOGIT_EDGES)
        heights = [y(100 * count / counts.sum()) for count in counts]
        steps = [(x(edge), height) for n, height in enumerate(heights) for edge in LOGIT_EDGES[n : n + 2]]
        drawing.append(stroke([(start, y(0)), *steps, (right, y(0))], kind))
        shares[generation] = float(np.mean(run.values(BASELINE, generation, "common.above_99")))
    for p in TICKS:
        at = x(math.log(p / (1 - p)))
        drawing.append(stroke([(at, BOTTOM), (at, BOTTOM + 5)], "tick"))
        drawing.append(words(at, BOTTOM + 25, f"{p:g}", anchor="middle"))
    limit = x(math.log(0.99 / 0.01))
    drawing.append(stroke([(limit, TOP - 2), (limit, BOTTOM)], "guide"))
    drawing.append(words((start + right) / 2, BOTTOM + 50, "probability (logit scale)", anchor="middle"))
    drawing.append(words(limit - 30, 156, f"generation {first}", "halo", "end"))
    drawing.append(words(limit - 30, 177, f"{shares[first]:.0%} above 0.99".replace("%", " %"), "halo", "end"))
    drawing.append(words(right, 113, f"generation {last}", "label base halo", "end"))
    drawing.append(words(right, 134, f"{shares[last]:.0%} above 0.99".replace("%", " %"), "label base halo", "end"))
    return drawing


def picture(run: Run) -> str:
    panels = [*accuracy_panel(run, 28, 392), *samples_panel(run, 426, 826), *confidence_panel(run, 866, 1172)]
    seeds = len(run.folders(0))
    title = (
        "Three panels from one run of the demo. Left: KR-test accuracy over generations for baseline, truncated and "
        f"accumulate. Middle: how often the {seeds} seeds of the baseline still name each person. Right: its "
        "confidence moves towards 1."
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    paper = f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{title}</title><style>{STYLE}</style>'
    return f"{head}{paper}{''.join(panels)}</svg>\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_text(picture(Run.read(Path(sys.argv[1]))), encoding="utf-8")
