"""What `tailkeep audit` costs: megabytes a second of a core, memory over fresh text, and time beside a forward pass.

    python benchmarks/audit.py [--parts speed scale prior profile]

speed     MB/s of CPU time of the statistics; the same with near-duplicates, and with compression, each apart
scale     time and peak memory over x1, x10, x100 of fresh text
prior     tokens/s beside a bare forward pass of the same prior over the same batches
profile   where the time of `speed` goes

Text is that of `benchmarks/edit.py`: no document twice. `prior` takes stories260k of TAILKEEP_DATA and Llamas of 8
layers and width 512 with random weights.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edit_cost.measuring import Job, Range, Spent, in_own_process, ratio, rounds_of

PARTS = ("speed", "scale", "prior", "profile")
EXTRAS: Mapping[str, dict[str, Any]] = {
    "statistics": {},
    "with near-duplicates": {"near_duplicates": {}},
    "with zlib": {"compression": "zlib"},
    "with zstd": {"compression": "zstd"},
}
_TOLD = ("bytes", "tokens", "seconds", "cpu_seconds", "startup_cpu_seconds", "peak_mib")


def parsed() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--bytes", type=int, default=64_000_000, help="text of `speed` and `profile`")
    arguments.add_argument(
        "--document-bytes", type=int, default=2000, help="join its documents, of 220 bytes, up to so many"
    )
    arguments.add_argument("--scale", type=int, nargs="+", default=[1, 10, 100])
    arguments.add_argument("--unit-bytes", type=int, default=1_000_000, help="x1 of the scale, a file each")
    arguments.add_argument("--memory", type=int, default=64, help="--memory of the scale, in MB")
    arguments.add_argument("--subjects", nargs="+", default=["stories260k", "50k"])
    arguments.add_argument("--prior-bytes", type=int, default=400_000)
    arguments.add_argument("--nice", type=int, default=0)
    arguments.add_argument("--out", help="also write every single measurement to this CSV file")
    arguments.add_argument("--job", help=argparse.SUPPRESS)  # the fresh process: one job
    return arguments.parse_args()


def main() -> None:
    options = parsed()
    if options.job is not None:
        print(json.dumps(done(json.loads(options.job))), flush=True)
        return
    sys.stdout.reconfigure(line_buffering=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="tailkeep-bench-") as temporary:
        for part in options.parts:
            rows += globals()[part](options, Path(temporary))
    if options.out:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["part", "contender", "round", *_TOLD], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def speed(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    path = text_of(options, folder)
    jobs = {name: partial(audit_job, path, folder, config) for name, config in EXTRAS.items()}
    found = rounds_of(jobs, rounds=options.rounds, nice=options.nice)
    print(f"\n## MB/s of one core, {path.stat().st_size:,} bytes of fresh text\n")
    print("| contender | MB/s of CPU time (range) | MB/s by the clock | s of CPU for the extra | peak MiB |")
    print("|---|---|---|---|---|")
    base = [spent["cpu_seconds"] for spent in found["statistics"]]
    for name, spents in found.items():
        cpu = Range.of([spent["bytes"] / 1e6 / spent["cpu_seconds"] for spent in spents])
        clock = Range.of([spent["bytes"] / 1e6 / spent["seconds"] for spent in spents])
        extra = Range.of([spent["cpu_seconds"] - own for spent, own in zip(spents, base, strict=True)])
        shown = "" if name == "statistics" else f"{extra.median:.1f}"
        peak = max(spent["peak_mib"] for spent in spents)
        print(f"| {name} | {cpu.text('.1f')} | {clock.median:.1f} | {shown} | {peak:.0f} |")
        for number, spent in enumerate(spents):
            yield {"part": "speed", "contender": name, "round": number, **spent}


def scale(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    print(f"\n## Fresh text, --memory {options.memory}\n")
    print("| text | bytes | s of CPU | MB/s of CPU time | s of CPU to conclude | peak MiB |")
    print("|---|---|---|---|---|---|")
    for factor in options.scale:
        units = folder / f"x{factor}"
        made = {"kind": "texts", "folder": units, "units": factor, "unit_bytes": options.unit_bytes}
        in_own_process(made, nice=options.nice)
        config = {"layout": {"document": "line"}, "memory_mb": options.memory}
        spent = in_own_process(audit_job(units, folder, config), nice=options.nice)
        megabytes = spent["bytes"] / 1e6
        print(
            f"| x{factor} | {spent['bytes']:,} | {spent['cpu_seconds']:.1f} | {megabytes / spent['cpu_seconds']:.1f} | "
            f"{spent['concluding']:.1f} | {spent['peak_mib']:.0f} |"
        )
        yield {"part": "scale", "contender": f"x{factor}", "round": 0, **spent}


def prior(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    from edit_cost.tables import subjects

    print("\n## With a prior, beside a bare forward pass over the same batches\n")
    print(
        "| prior | tokens | share of the forward pass, CPU time (range) | by the clock | peak MiB of audit and pass |"
    )
    print("|---|---|---|---|---|")
    chosen = argparse.Namespace(**{**vars(options), "bytes": options.prior_bytes, "share": 0.0})
    for subject in subjects(chosen, folder):
        name = subject.name
        jobs = {
            "bare": lambda subject=subject: {
                "kind": "bare", "prior": subject.prior, "path": subject.path, "document": subject.document,
                "threads": 1,
            },
            "audit": lambda subject=subject: audit_job(
                subject.path, folder, {"layout": {"document": subject.document}, "prior": {"path": str(subject.prior)}}
            ),
        }  # fmt: skip
        found = rounds_of(jobs, rounds=options.rounds, nice=options.nice)
        cpu, clock = (ratio(found["audit"], found["bare"], which) for which in ("cpu_seconds", "seconds"))
        peaks = [max(spent["peak_mib"] for spent in found[which]) for which in ("audit", "bare")]
        tokens = found["bare"][0]["tokens"]
        print(f"| {name} | {tokens:,} | {cpu.text('.2f')} | {clock.median:.2f} | {peaks[0]:.0f} and {peaks[1]:.0f} |")
        for which, spents in found.items():
            for number, spent in enumerate(spents):
                yield {"part": f"prior {name}", "contender": which, "round": number, **spent}


def profile(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    spent = in_own_process({**audit_job(text_of(options, folder), folder, {}), "profile": True}, nice=options.nice)
    print("\n## Where the time of the statistics goes\n")
    print("| function | share of the time |")
    print("|---|---|")
    for name, share in spent["profile"]:
        print(f"| `{name}` | {share:.1%} |")
    yield from ()


def text_of(options: argparse.Namespace, folder: Path) -> Path:
    """One file of fresh text, made once."""
    if not (folder / "text").exists():
        made = {"kind": "texts", "folder": folder / "text", "units": 1, "unit_bytes": options.bytes}
        in_own_process(made, nice=options.nice)
        if options.document_bytes:
            join_documents(folder / "text" / "0000.txt", options.document_bytes)
    return folder / "text" / "0000.txt"


def join_documents(path: Path, size: int) -> None:
    """Make documents of about `size` bytes of the lines of the file at `path`."""
    documents: list[str] = [""]
    for line in path.read_text(encoding="utf-8").split("\n"):
        if len(documents[-1]) >= size:
            documents.append("")
        documents[-1] = f"{documents[-1]} {line}".strip()
    path.write_text("\n".join(documents) + "\n", encoding="utf-8")


def audit_job(path: Path, folder: Path, config: Mapping[str, Any]) -> Job:
    out = tempfile.mkdtemp(prefix="out-", dir=folder)
    return {"kind": "audit", "path": path, "out": out, "config": {"layout": {"document": "line"}, **config}}


def done(job: Mapping[str, Any]) -> Spent:
    """One job, in the process that is made for it."""
    match job["kind"]:
        case "audit":
            from audit_cost import audited

            return audited(Path(job["path"]), Path(job["out"]), job["config"], profile=job.get("profile", False))
        case "bare":
            from edit_cost.forward import bare

            return bare(Path(job["prior"]), Path(job["path"]), job["document"], threads=job["threads"])
        case "prior":
            from edit_cost.priors import REALISTIC, write_prior

            return {"ids": write_prior(Path(job["folder"]), REALISTIC[job["shape"]])}
        case "world":
            from tailkeep.lab import write_world

            write_world(Path(job["folder"]), {"documents": 2000})
            return {}
        case "texts":
            from edit_cost.texts import write_units

            write_units(Path(job["folder"]), units=job["units"], unit_bytes=job["unit_bytes"])
            return {}
        case other:
            sys.exit(f"no job is called {other!r}")


if __name__ == "__main__":
    main()
