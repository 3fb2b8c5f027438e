"""The cost of `tailkeep forecast`: MB/s of CPU time and peak memory, relative to Python's Counter over the same files.

    python benchmarks/forecast.py FILE... [--bytes 300000000] [--max-n 1] [--memory-mb 256]

A seeded script makes text of that size from the FILEs: documents of 200 consecutive words from random places, in files
of at most 20 MB, the later half of which is the synthetic text. Each job runs in a fresh process; the last columns are
ratios to `Counter`, which counts words alone, in one process and in memory.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tailkeep import audit, forecast

WORDS = 200
FILE_BYTES = 20_000_000
JOBS = ("Counter", "forecast", "audit")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--bytes", type=int, default=300_000_000)
    parser.add_argument("--max-n", type=int, default=1)
    parser.add_argument("--memory-mb", type=int, default=256)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", help=argparse.SUPPRESS)  # the fresh process: one job
    options = parser.parse_args(arguments)
    if options.job:
        print(json.dumps(run_job(options.job, options.files[0], options.max_n, options.memory_mb)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = make_text(options.files, folder / "text", options.bytes, options.seed)
        print(f"{size / 1e6:.0f} MB of text, {options.max_n}-grams, memory {options.memory_mb} MB\n")
        print("| job | MB/s of CPU time | peak memory, MB | CPU time over Counter | memory over Counter |")
        print("|---|---|---|---|---|")
        rival: dict[str, float] = {}
        # The rival is measured in every run.
        for job in dict.fromkeys(["Counter", *options.jobs]):
            sizes = ["--max-n", str(options.max_n), "--memory-mb", str(options.memory_mb)]
            command = [sys.executable, __file__, str(folder / "text"), "--job", job, *sizes]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  (this file)
            figures = json.loads(ended.stdout.splitlines()[-1])
            rival = rival or figures
            ratios = [f"{figures[key] / rival[key]:.2f}" for key in ("cpu_seconds", "peak_mb")]
            speed = size / 1e6 / figures["cpu_seconds"]
            print(f"| {job} | {speed:.1f} | {figures['peak_mb']:.0f} | {' | '.join(ratios)} |", flush=True)


def make_text(files: Sequence[Path], folder: Path, size: int, seed: int) -> int:
    """Write about `size` bytes of documents of `WORDS` words from random places of `files`. Return the exact number."""
    words = np.array(" ".join(path.read_text(encoding="utf-8") for path in files).split())
    rng, total = np.random.default_rng(seed), 0
    folder.mkdir()
    # At least two files: the second half of them is the synthetic text.
    num_files = max(2, math.ceil(size / FILE_BYTES))
    for number in range(num_files):
        starts = rng.integers(0, max(1, len(words) - WORDS), FILE_BYTES // WORDS)
        with (folder / f"{number:05d}.txt").open("w", encoding="utf-8") as file:
            remaining = (size - total) // (num_files - number)
            for start in starts:
                line = " ".join(words[start : start + WORDS]) + "\n"
                file.write(line)
                remaining -= len(line.encode("utf-8"))
                if remaining <= 0:
                    break
        total += (folder / f"{number:05d}.txt").stat().st_size
    return total


def run_job(job: str, folder: Path, max_n: int, memory_mb: int) -> dict[str, float]:
    """Run `job` on the files of `folder`: CPU seconds and peak memory, without the start of Python."""
    run = {"Counter": count_by_counter, "forecast": run_forecast, "audit": run_audit}[job]
    before = time.process_time()
    run(folder, max_n, memory_mb)
    seconds = time.process_time() - before
    # Unlike ru_maxrss, this begins anew with each program.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
    return {"cpu_seconds": seconds, "peak_mb": peak}


def count_by_counter(folder: Path, max_n: int, memory_mb: int) -> None:
    """The rival: words by a regular expression into one Counter."""
    del max_n, memory_mb
    counts: Counter[str] = Counter()
    pattern = re.compile(r"\w+|[^\w\s]+")
    for path in sorted(folder.iterdir()):
        with path.open(encoding="utf-8") as file:
            for line in file:
                counts.update(pattern.findall(line.lower()))
    assert counts


def run_forecast(folder: Path, max_n: int, memory_mb: int) -> None:
    """`tailkeep forecast` of the first half as real and the second as synthetic text."""
    paths = sorted(map(str, folder.iterdir()))
    half = (len(paths) + 1) // 2
    config = {"max_n": max_n, "memory_mb": memory_mb, "layout": {"document_separator": "line"}}
    with tempfile.TemporaryDirectory() as out:
        forecast.run(config, paths[:half], Path(out) / "out", synthetic=paths[half:])


def run_audit(folder: Path, max_n: int, memory_mb: int) -> None:
    """`tailkeep audit` of all of it."""
    del max_n
    config = {"memory_mb": memory_mb, "layout": {"document_separator": "line"}}
    with tempfile.TemporaryDirectory() as out:
        audit.run(config, str(folder), Path(out) / "out")


if __name__ == "__main__":
    main()
