"""The cost of `tailkeep audit`: MB/s per core, memory over fresh text, and time relative to a forward pass.

    python benchmarks/audit.py [--parts speed scale prior profile]
    python benchmarks/audit.py --parts speed profile --text DATA/text/*.txt

speed     MB/s of CPU time of the statistics alone, with near-duplicates, and with compression
scale     time and peak memory over x1, x10, x100 of fresh text
prior     time relative to a bare forward pass of the same prior over the same batches
profile   the profile of `speed`

The text is that of `benchmarks/edit.py`, without duplicates; of `speed` and `profile`, with --text, the lines of real
files, shuffled anew until there is enough. `prior` takes stories260k of TAILKEEP_DATA and Llamas of 8 layers and width
512 with random weights.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from edit_cost.measuring import Job, Range, Spent, ratio, run_in_process, run_rounds

PARTS = ("speed", "scale", "prior", "profile")
EXTRAS: Mapping[str, dict[str, Any]] = {
    "statistics": {},
    "with near-duplicates": {"near_duplicates": {}},
    "with zlib": {"compression": "zlib"},
    "with zstd": {"compression": "zstd"},
}
_COLUMNS = ("bytes", "tokens", "seconds", "cpu_seconds", "startup_cpu_seconds", "peak_mib")


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--bytes", type=int, default=64_000_000, help="bytes of text of `speed` and `profile`")
    arguments.add_argument("--text", type=Path, nargs="+", help="files of real text, for `speed` and `profile`")
    arguments.add_argument(
        "--document-bytes", type=int, default=2000, help="join its documents of 220 bytes to so many bytes"
    )
    arguments.add_argument("--scale", type=int, nargs="+", default=[1, 10, 100])
    arguments.add_argument(
        "--unit-bytes", type=int, default=1_000_000, help="bytes of x1 of `scale`, one file per unit"
    )
    arguments.add_argument("--memory-mb", type=int, default=64, help="--memory-mb of `scale`")
    arguments.add_argument("--subjects", nargs="+", default=["stories260k", "50k"])
    arguments.add_argument("--prior", type=Path, nargs="+", help="folders of real models, in place of the subjects")
    arguments.add_argument("--prior-bytes", type=int, default=400_000)
    arguments.add_argument("--nice", type=int, default=0)
    arguments.add_argument("--out", help="also write every single measurement to this CSV file")
    arguments.add_argument("--job", help=argparse.SUPPRESS)  # the fresh process: one job
    return arguments.parse_args()


def main() -> None:
    options = parse_arguments()
    if options.job is not None:
        print(json.dumps(run_job(json.loads(options.job))), flush=True)
        return
    sys.stdout.reconfigure(line_buffering=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="tailkeep-bench-") as temporary:
        for part in options.parts:
            rows += globals()[part](options, Path(temporary))
    if options.out:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["part", "contender", "round", *_COLUMNS], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def speed(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    path = text_of(options, folder)
    jobs = {name: partial(audit_job, path, folder, config) for name, config in EXTRAS.items()}
    results = run_rounds(jobs, rounds=options.rounds, nice=options.nice)
    print(f"\n## MB/s of one core, {path.stat().st_size:,} bytes of {'shuffled' if options.text else 'fresh'} text\n")
    print("| contender | MB/s of CPU time (range) | MB/s by the clock | s of CPU for the extra | peak MiB |")
    print("|---|---|---|---|---|")
    base = [spent["cpu_seconds"] for spent in results["statistics"]]
    for name, spents in results.items():
        cpu = Range.of([spent["bytes"] / 1e6 / spent["cpu_seconds"] for spent in spents])
        clock = Range.of([spent["bytes"] / 1e6 / spent["seconds"] for spent in spents])
        extra = Range.of(
            [spent["cpu_seconds"] - base_seconds for spent, base_seconds in zip(spents, base, strict=True)]
        )
        shown = "" if name == "statistics" else f"{extra.median:.1f}"
        peak = max(spent["peak_mib"] for spent in spents)
        print(f"| {name} | {cpu.text('.1f')} | {clock.median:.1f} | {shown} | {peak:.0f} |")
        for number, spent in enumerate(spents):
            yield {"part": "speed", "contender": name, "round": number, **spent}


def scale(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    print(f"\n## Fresh text, --memory-mb {options.memory_mb}\n")
    print("| text | bytes | s of CPU | MB/s of CPU time | s of CPU of the summary | peak MiB |")
    print("|---|---|---|---|---|---|")
    for factor in options.scale:
        units = folder / f"x{factor}"
        texts_job = {"kind": "texts", "folder": units, "units": factor, "unit_bytes": options.unit_bytes}
        run_in_process(texts_job, nice=options.nice)
        config = {"layout": {"document_separator": "line"}, "memory_mb": options.memory_mb}
        spent = run_in_process(audit_job(units, folder, config), nice=options.nice)
        megabytes = spent["bytes"] / 1e6
        print(
            f"| x{factor} | {spent['bytes']:,} | {spent['cpu_seconds']:.1f} | {megabytes / spent['cpu_seconds']:.1f} | "
            f"{spent['concluding']:.1f} | {spent['peak_mib']:.0f} |"
        )
        yield {"part": "scale", "contender": f"x{factor}", "round": 0, **spent}


def prior(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    from edit_cost.tables import subjects

    print("\n## With a prior, relative to a bare forward pass over the same batches\n")
    print(
        "| prior | tokens | share of the forward pass, CPU time (range) | by the clock | peak MiB of audit and pass |"
    )
    print("|---|---|---|---|---|")
    subject_options = argparse.Namespace(**{**vars(options), "bytes": options.prior_bytes, "share": 0.0})
    for subject in subjects(subject_options, folder):
        name = subject.name
        jobs = {
            "bare": lambda subject=subject: {
                "kind": "bare", "prior": subject.prior, "path": subject.path, "document": subject.document,
                "threads": 1,
            },
            "audit": lambda subject=subject: audit_job(
                subject.path,
                folder,
                {"layout": {"document_separator": subject.document}, "prior": {"path": str(subject.prior)}},
            ),
        }  # fmt: skip
        results = run_rounds(jobs, rounds=options.rounds, nice=options.nice)
        cpu, clock = (ratio(results["audit"], results["bare"], which) for which in ("cpu_seconds", "seconds"))
        peaks = [max(spent["peak_mib"] for spent in results[which]) for which in ("audit", "bare")]
        tokens = results["bare"][0]["tokens"]
        print(f"| {name} | {tokens:,} | {cpu.text('.2f')} | {clock.median:.2f} | {peaks[0]:.0f} and {peaks[1]:.0f} |")
        for which, spents in results.items():
            for number, spent in enumerate(spents):
                yield {"part": f"prior {name}", "contender": which, "round": number, **spent}


def profile(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    spent = run_in_process({**audit_job(text_of(options, folder), folder, {}), "profile": True}, nice=options.nice)
    print("\n## Profile of the statistics\n")
    print("| function | share of the time |")
    print("|---|---|")
    for name, share in spent["profile"]:
        print(f"| `{name}` | {share:.1%} |")
    yield from ()


def text_of(options: argparse.Namespace, folder: Path) -> Path:
    """The path of one file of text, written once."""
    path = folder / "text" / "0000.txt"
    if not path.exists():
        if options.text:
            write_shuffled(path, options.text, options.bytes)
        else:
            texts_job = {"kind": "texts", "folder": path.parent, "units": 1, "unit_bytes": options.bytes}
            run_in_process(texts_job, nice=options.nice)
        if options.document_bytes:
            join_documents(path, options.document_bytes)
    return path


def write_shuffled(path: Path, files: Sequence[Path], size: int) -> None:
    """Write the lines of `files` that are not blank to `path`, each time in another order, up to `size` bytes."""
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    rng = np.random.default_rng(0)
    path.parent.mkdir()
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            file.writelines(f"{lines[index]}\n" for index in rng.permutation(len(lines)))


def join_documents(path: Path, size: int) -> None:
    """Join the lines of the file at `path` to documents of about `size` bytes."""
    documents: list[str] = [""]
    for line in path.read_text(encoding="utf-8").split("\n"):
        if len(documents[-1]) >= size:
            documents.append("")
        documents[-1] = f"{documents[-1]} {line}".strip()
    path.write_text("\n".join(documents) + "\n", encoding="utf-8")


def audit_job(path: Path, folder: Path, config: Mapping[str, Any]) -> Job:
    out = tempfile.mkdtemp(prefix="out-", dir=folder)
    return {"kind": "audit", "path": path, "out": out, "config": {"layout": {"document_separator": "line"}, **config}}


def run_job(job: Mapping[str, Any]) -> Spent:
    """Run one job in this process."""
    match job["kind"]:
        case "audit":
            from audit_cost import measure_audit

            return measure_audit(Path(job["path"]), Path(job["out"]), job["config"], profile=job.get("profile", False))
        case "bare":
            from edit_cost.forward import run_forward

            return run_forward(Path(job["prior"]), Path(job["path"]), job["document"], threads=job["threads"])
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
            sys.exit(f"unknown job {other!r}")


if __name__ == "__main__":
    main()
