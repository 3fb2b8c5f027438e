"""The cost of `tailkeep edit` compared with a bare forward pass of the same prior and with the published way.

    python benchmarks/edit.py [--parts cost profile scale workers] [--subjects stories260k world 50k 128k 150k 262k]
    python benchmarks/edit.py --parts cost --prior MODELS/smollm2-135m MODELS/gemma-3-270m
    python benchmarks/edit.py --parts cost --subjects 262k --bytes 64000

cost      tokens/s and peak memory of (a) a bare forward pass, (b) tailkeep edit, (c) the published way
profile   where the time of (b) goes
scale     time and memory of (b) over x1, x10, x100 of fresh text, under a tiny prior with random weights
workers   the whole command with 1 and 2 workers, local and Ray

`stories260k` is read from TAILKEEP_DATA; where that is missing `world` stands in, the embedded world with its small
prior. The other subjects are Llamas of 8 layers and width 512 with random weights, `262k` of 2 layers and width 64,
whose memory is what counts. Their tokens are flagged at random (--share), since such a model is confident of none. With
--prior the subjects are real models, on the beginning of Moby Dick, which the repository has, with the default rule.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edit_cost.measuring import Spent

SHAPES = ("50k", "128k", "150k", "262k")
PARTS = ("cost", "profile", "scale", "workers")
_FIELDS = ("tokens", "flagged", "seconds", "cpu_seconds", "startup_cpu_seconds", "peak_mib")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--subjects", nargs="+", choices=["stories260k", "world", *SHAPES], default=None)
    parser.add_argument("--prior", type=Path, nargs="+", help="folders of real models, in place of the subjects")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=48_000, help="text of the realistic shapes and real models")
    parser.add_argument("--share", type=float, default=0.15, help="share of their tokens that is flagged")
    parser.add_argument("--scale", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--unit-bytes", type=int, default=1_250_000, help="x1 of the scale: above one group of 1 MiB")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--nice", type=int, default=0, help="priority of what is timed")
    parser.add_argument("--folder", type=Path, help="keep priors and texts here; a temporary folder by default")
    parser.add_argument("--out", help="also write every single measurement to this CSV file")
    parser.add_argument("--job", help=argparse.SUPPRESS)  # the fresh process: one job
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    if options.job is not None:
        print(json.dumps(run_job(json.loads(options.job))), flush=True)
        return
    sys.stdout.reconfigure(line_buffering=True)
    # Only the parent needs these, and what measures imports as little as it can.
    from edit_cost import tables

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="tailkeep-bench-") as temporary:
        folder = options.folder or Path(temporary)
        for part in options.parts:
            for row in getattr(tables, part)(options, folder, Path(temporary)):
                rows.append(row)
                if options.out:
                    write_rows(rows, options.out)


def write_rows(rows: Sequence[Mapping[str, Any]], out: str) -> None:
    """Write all rows so far, so that a long run that is stopped keeps its measurements."""
    with open(out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ["part", "subject", "contender", "round", "threads", *_FIELDS], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)


def run_job(job: Mapping[str, Any]) -> Spent:
    """Run one job, in a process started for it."""
    kind, options = job["kind"], {key: value for key, value in job.items() if key != "kind"}
    paths: dict[str, Any] = {key: Path(options[key]) for key in ("prior", "path", "out", "folder") if key in options}
    match kind:
        case "bare":
            from edit_cost.forward import run_forward

            return run_forward(**{**options, **paths})
        case "edit":
            from edit_cost.tailkeep_edit import run_edit

            return run_edit(**{**options, **paths})
        case "published":
            from edit_cost.published import run_published

            return run_published(**{**options, **paths})
        case "prior":
            from edit_cost import priors

            shape = priors.TINY if options["shape"] == "tiny" else priors.REALISTIC[options["shape"]]
            return {"ids": priors.write_prior(paths["folder"], shape)}
        case "world":
            from tailkeep.lab import write_world

            write_world(paths["folder"], {"documents": 2000})
            return {}
        case _:
            from edit_cost.texts import write_units

            write_units(paths["folder"], units=options["units"], unit_bytes=options["unit_bytes"])
            return {}


if __name__ == "__main__":
    main()
