"""The four parts of the benchmark: what runs, and the tables for people."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edit_cost.measuring import Job, Range, Spent, ratio, run_command, run_in_process, run_rounds, speed
from edit_cost.texts import STORIES_END, data_folder

_MOBY_DICK = Path(__file__).parents[2] / "examples" / "moby_dick.txt"
_SHARDS = 8
_RESAMPLED = 0.01
"""The share of tokens resampled under the tiny prior; nearly all change, about as many as in real edits."""
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Subject:
    """A prior and a text; `share` of the tokens is flagged at random, or those above the threshold if it is None."""

    name: str
    prior: Path
    path: Path
    document: str
    share: float | None = None
    note: str = ""

    @property
    def rule(self) -> dict[str, Any]:
        """The part of tailkeep's configuration that flags the tokens."""
        return {} if self.share is None else {"rule": {"name": "random", "share": self.share}}


@dataclass(frozen=True)
class NewFolders:
    """Names of new output folders."""

    folder: Path
    paths: list[Path] = field(default_factory=list)

    def __call__(self) -> Path:
        self.paths.append(self.folder / f"out-{len(self.paths)}")
        return self.paths[-1]


def subjects(options: argparse.Namespace, folder: Path) -> Iterator[Subject]:
    """The subjects in the options, or the default; says if TAILKEEP_DATA is missing."""
    if options.prior:
        path = folder / f"moby-dick-{options.bytes}.txt"
        path.write_text(_MOBY_DICK.read_text(encoding="utf-8")[: options.bytes], encoding="utf-8")
        yield from (Subject(prior.name, prior, path, "blank-line", note="real text") for prior in options.prior)
        return
    data = data_folder()
    small = "stories260k" if data else "world"
    for name in options.subjects or [small, "50k", "128k"]:
        if name == "stories260k" and data is None:
            print("skipped: stories260k: TAILKEEP_DATA names no folder. --subjects world needs none.")
        elif name == "stories260k":
            assert data is not None
            yield Subject(name, data / "priors" / name, data / "text" / "tinystories.txt", STORIES_END)
        elif name == "world":
            create(folder / "world", {"kind": "world"})
            yield Subject(name, folder / "world" / "prior", folder / "world" / "corpus.txt", "line")
        else:
            yield realistic_subject(name, options, folder)


def realistic_subject(name: str, options: argparse.Namespace, folder: Path) -> Subject:
    """A Llama of random weights and the text for it."""
    prior, texts = folder / f"prior-{name}", folder / f"text-{options.bytes}"
    create(prior, {"kind": "prior", "shape": name})
    create(texts, {"kind": "texts", "units": 1, "unit_bytes": options.bytes})
    share = options.share
    return Subject(name, prior, texts / "0000.txt", "line", share, f"{share:.0%} of the tokens flagged at random")


def create(folder: Path, job: Job) -> None:
    """Create `folder` by `job`, in a fresh process, unless it exists."""
    if not folder.exists():
        print(f"making {folder.name} ...", file=sys.stderr, flush=True)
        unfinished = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        run_in_process({**job, "folder": unfinished})
        unfinished.rename(folder)


def cost(options: argparse.Namespace, folder: Path, temporary: Path) -> Rows:
    """(a), (b) and (c) in turn."""
    for subject in subjects(options, folder):
        costs = run_rounds(_contenders(subject, options, temporary), rounds=options.rounds, nice=options.nice)
        _print_cost(subject, costs, options)
        for name, spents in costs.items():
            yield from _rows("cost", subject.name, name, spents, options)


FORWARD, EDIT, PUBLISHED = "(a) bare forward pass", "(b) tailkeep edit", "(c) published way"


def _contenders(subject: Subject, options: argparse.Namespace, temporary: Path) -> dict[str, Any]:
    fresh = NewFolders(temporary / f"cost-{subject.name}")
    fresh.folder.mkdir()
    shared = {"prior": subject.prior, "path": subject.path, "document": subject.document, "threads": options.threads}
    published = {"threshold": 0.99, "share": subject.share, "out": fresh.folder / "published.jsonl"}
    return {
        FORWARD: lambda: {**shared, "kind": "bare"},
        EDIT: lambda: {**shared, "kind": "edit", "rule": subject.rule, "out": fresh()},
        PUBLISHED: lambda: {**shared, "kind": "published", **published},
    }


def _print_cost(subject: Subject, costs: dict[str, list[Spent]], options: argparse.Namespace) -> None:
    tokens = costs[EDIT][0]["tokens"]
    about = f", {subject.note}" if subject.note else ""
    print(f"\ncost: {subject.name}, {tokens:,} tokens, {options.threads} thread(s), {options.rounds} rounds{about}")
    print("speed is a ratio of tokens per second of CPU time, then by the clock: median (least-largest)")
    print(
        f"{'':24}{'tokens/CPU s':>13}{'of (a)':>19}{'of (c)':>19}{'of (a), clock':>19}{'of (c), clock':>19}"
        f"{'start, CPU s':>13}{'peak MiB':>10}{'flagged':>9}"
    )
    for name, spents in costs.items():
        ratios = [
            ratio(spents, costs[base], clock).text(".2f")
            for clock in ("cpu_seconds", "seconds")
            for base in (FORWARD, PUBLISHED)
        ]
        flagged = f"{spents[0]['flagged'] / tokens:.2%}" if "flagged" in spents[0] else ""
        print(
            f"{name:24}{Range.of([speed(one, 'cpu_seconds') for one in spents]).median:13,.0f}"
            + "".join(f"{one:>19}" for one in ratios)
            + f"{Range.of([one['startup_cpu_seconds'] for one in spents]).median:13.1f}"
            + f"{max(one['peak_mib'] for one in spents):10,.0f}{flagged:>9}"
        )


def profile(options: argparse.Namespace, folder: Path, temporary: Path) -> Rows:
    """Where the time of (b) goes, under cProfile, which makes Python code look slower than it is."""
    for subject in subjects(options, folder):
        job = {"kind": "edit", "prior": subject.prior, "path": subject.path, "document": subject.document}
        out = temporary / f"profile-{subject.name}"
        more = {"threads": options.threads, "rule": subject.rule, "out": out, "profile": True}
        spent = run_in_process({**job, **more}, nice=options.nice)
        stages = spent["stages"]
        print(f"\nprofile: {subject.name}, {spent['tokens']:,} tokens, {stages['all']:.2f} s")
        for name, seconds in stages.items():
            share, each = seconds / stages["all"], 1e6 * seconds / spent["tokens"]
            print(f"{name:26}{seconds:9.3f} s{share:9.1%}{each:9.2f} us/token")
        yield from _rows("profile", subject.name, EDIT, [spent], options)


def scale(options: argparse.Namespace, folder: Path, temporary: Path) -> Rows:
    """Time and memory of (b) over sizes of fresh text."""
    largest = max(options.scale)
    texts = folder / f"scale-{options.unit_bytes}x{largest}"
    create(folder / "prior-tiny", {"kind": "prior", "shape": "tiny"})
    create(texts, {"kind": "texts", "units": largest, "unit_bytes": options.unit_bytes})
    jobs = {}
    fresh = NewFolders(temporary / "scale")
    fresh.folder.mkdir()
    for size in options.scale:
        path = fresh.folder / f"x{size}.txt"
        with path.open("wb") as whole:
            for number in range(size):
                whole.write((texts / f"{number:04}.txt").read_bytes())
        jobs[f"x{size}"] = _scale_job(folder / "prior-tiny", path, options, fresh)
    costs = run_rounds(jobs, rounds=options.rounds, nice=options.nice)
    base = f"x{min(options.scale)}"
    print(f"\nscale: tiny prior, one file, x1 is {options.unit_bytes:,} bytes, {options.rounds} rounds")
    print(f"{_RESAMPLED:.0%} of the tokens are resampled at random")
    print(f"{'':8}{'tokens':>12}{'CPU s':>9}{'us/token, of ' + base:>24}{'peak MiB':>10}{'of ' + base:>18}")
    for name, spents in costs.items():
        slower = Range.of([1 / one for one in _pairs(spents, costs[base], "cpu_seconds")])
        memory = Range.of([one["peak_mib"] / other["peak_mib"] for one, other in zip(spents, costs[base], strict=True)])
        print(
            f"{name:8}{spents[0]['tokens']:12,}{Range.of([one['cpu_seconds'] for one in spents]).median:9.2f}"
            f"{slower.text('.3f'):>24}{max(one['peak_mib'] for one in spents):10,.0f}{memory.text('.2f'):>18}"
        )
        yield from _rows("scale", "tiny", name, spents, options)


def _scale_job(prior: Path, path: Path, options: argparse.Namespace, fresh: NewFolders) -> Any:
    shared = {"kind": "edit", "prior": prior, "path": path, "document": "line", "threads": options.threads}
    return lambda: {**shared, "rule": {"rule": {"name": "random", "share": _RESAMPLED}}, "out": fresh()}


def _pairs(contender: Sequence[Spent], base: Sequence[Spent], clock: str) -> list[float]:
    return [speed(one, clock) / speed(other, clock) for one, other in zip(contender, base, strict=True)]


def workers(options: argparse.Namespace, folder: Path, temporary: Path) -> Rows:
    """The whole command, including its startup, on shards of fresh text."""
    texts = folder / f"workers-{options.unit_bytes}"
    create(folder / "prior-tiny", {"kind": "prior", "shape": "tiny"})
    create(texts, {"kind": "texts", "units": _SHARDS, "unit_bytes": options.unit_bytes})
    executors = ["local", "ray"]
    if reason := _no_ray():
        print(f"skipped: ray: {reason}")
        executors.remove("ray")
    fresh = NewFolders(temporary / "workers")
    fresh.folder.mkdir()
    costs: dict[str, list[Spent]] = {f"{executor}, {n}": [] for executor in executors for n in options.workers}
    for turn in range(options.rounds):
        for executor in executors:
            for number in options.workers:
                print(f"round {turn + 1} of {options.rounds}: {executor}, {number} ...", file=sys.stderr, flush=True)
                command = _command(folder / "prior-tiny", texts, fresh(), number, executor, executors, options)
                costs[f"{executor}, {number}"].append(run_command(command, nice=options.nice))
    base = f"local, {min(options.workers)}"
    print(f"\nworkers: {_SHARDS} shards of {options.unit_bytes:,} bytes, the whole command, {options.rounds} rounds")
    print("CPU time and memory are unknown for Ray, whose processes are not children of the command.")
    print(f"{'executor, workers':18}{'seconds':>22}{'speed, of ' + base:>26}{'CPU s':>9}{'peak of one, MiB':>18}")
    for name, spents in costs.items():
        gain = Range.of([other["seconds"] / one["seconds"] for one, other in zip(spents, costs[base], strict=True)])
        cpu = "" if "ray" in name else f"{Range.of([one['cpu_seconds'] for one in spents]).median:.1f}"
        peak = "" if "ray" in name else f"{max(one['peak_mib'] for one in spents):,.0f}"
        seconds = Range.of([one["seconds"] for one in spents]).text(".1f")
        print(f"{name:18}{seconds:>22}{gain.text('.2f'):>26}{cpu:>9}{peak:>18}")
        yield from _rows("workers", "tiny", name, spents, options)


def _command(
    prior: Path,
    texts: Path,
    out: Path,
    number: int,
    executor: str,
    executors: Sequence[str],
    options: argparse.Namespace,
) -> list[str]:
    execution = ["--executor", executor] if "ray" in executors else []
    settings = [
        "--set",
        "rule.name=random",
        "--set",
        f"rule.share={_RESAMPLED}",
        "--set",
        f"num_threads={options.threads}",
    ]
    what = ["--input", str(texts / "*.txt"), "--document-separator", "line", "--prior", str(prior), "--out", str(out)]
    return [sys.executable, "-m", "tailkeep", "edit", *what, "--workers", str(number), *execution, *settings]


def _no_ray() -> str:
    """Why there is no row of Ray; "" if there is one."""
    command = [sys.executable, "-m", "tailkeep", "edit", "--executor", "ray", "--help"]
    if subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603
        return "this version's `tailkeep edit` has no --executor ray"
    check = subprocess.run([sys.executable, "-c", "import ray"], capture_output=True, check=False)
    return "the package ray is not installed" if check.returncode else ""


def _rows(part: str, subject: str, contender: str, spents: Sequence[Spent], options: argparse.Namespace) -> Rows:
    shared = {"part": part, "subject": subject, "contender": contender, "threads": options.threads}
    for number, spent in enumerate(spents, 1):
        yield {**shared, "round": number, **spent}
