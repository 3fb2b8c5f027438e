"""Kills and damage: does the same command leave the bytes of a run that nothing disturbed?

    python benchmarks/reliability.py --prior FOLDER [--kills 100] [--flips 100] [--seed 0]

Kills: a process that edits a corpus of eight kinds of files and many small ones is killed (SIGKILL) when it has
written a random number of names, and begun again until it ends. Damage: one random bit of one random file of the
finished run is flipped, and the command runs again. Counted is what the next run does: made good (identical bytes),
refused (an error), or accepted in silence.
"""

import argparse
import bz2
import gzip
import json
import lzma
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tailkeep import edit
from tailkeep.errors import TailkeepError

Files = dict[str, bytes]
Config = dict[str, object]
NOT_COMPARED = (".lock", ".locks")
SMALL_FILES = 32


def write_corpus(folder: Path) -> None:
    """Eight kinds of files, each with a few documents, and small files that share forward passes."""
    folder.mkdir()
    rows = [
        {"id": f"{number}", "text": f"Once upon a time there was a girl with {number} cats."} for number in range(24)
    ]
    parts = [rows[start : start + 4] for start in range(0, 24, 4)]
    lines = ["".join(json.dumps(row) + "\n" for row in part).encode() for part in parts]
    (folder / "a.jsonl").write_bytes(lines[0])
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines[1]))
    (folder / "c.json").write_text(json.dumps(parts[2], indent=1))
    (folder / "d.ndjson.bz2").write_bytes(bz2.compress(lines[3]))
    (folder / "e.csv.xz").write_bytes(
        lzma.compress(("id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in parts[4])).encode())
    )
    pq.write_table(pa.Table.from_pylist(parts[5]), folder / "f.parquet", row_group_size=2)
    (folder / "g.txt").write_text("Once upon a time there was a dog.\nIt had a red ball.\n")
    (folder / "h.jsonl").write_bytes(b"")
    (folder / "small").mkdir()
    for number in range(SMALL_FILES):
        text = f"The red ball fell {number} times."
        (folder / "small" / f"{number:02d}.jsonl").write_text(json.dumps({"id": f"s{number}", "text": text}) + "\n")


def files_of(folder: Path) -> Files:
    """Every file below `folder` but the locks, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(NOT_COMPARED)}


def count_names(folder: Path) -> int:
    """How many files and folders there are below `folder`, in which another process may be at work."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def run_and_kill(config: Config, source: Path, out: Path, names: int) -> bool:
    """Edit in a child process that is killed once `names` names are in `out`; whether that was before it ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            edit.run(config, source, out)
            status = 0
        finally:
            os._exit(status)
    while not os.waitpid(child, os.WNOHANG)[0]:
        if count_names(out) >= names:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.001)
    return False


def main() -> None:
    """Run both campaigns and print what they counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)  # noqa: S311  (no secret)
    config = {
        "prior": {"path": arguments.prior},
        "rule": {"threshold": 0.5},
        "row_groups": 1,
        "part_bytes": 150,
        "seed": 0,
    }
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as name:
        root = Path(name)
        write_corpus(root / "in")
        edit.run(config, root / "in", root / "whole")
        whole = files_of(root / "whole")
        print(f"seed {arguments.seed}: {len(whole)} files of an undisturbed run")
        print("kills:", *summary(kill(config, root, whole, arguments.kills, draw)))
        print("damage:", *summary(damage(config, root, whole, arguments.flips, draw)))


def summary(counts: Counter[str]) -> list[str]:
    """The counts as text."""
    return [f"{count} {name};" for name, count in counts.items()]


def kill(config: Config, root: Path, whole: Files, number: int, draw: random.Random) -> Counter[str]:
    """Kill `number` processes, in runs that are begun again until they end."""
    counts = Counter({"tried": 0, "hit": 0, "runs": 0, "identical": 0, "lost": 0})
    names = count_names(root / "whole")
    while counts["tried"] < number:
        out = root / "killed"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(min(draw.randint(1, 3), number - counts["tried"])):
            counts["tried"] += 1
            counts["hit"] += run_and_kill(config, root / "in", out, draw.randint(1, names))
        edit.run(config, root / "in", out)
        counts["runs"] += 1
        counts["identical" if files_of(out) == whole else "lost"] += 1
    return counts


def damage(config: Config, root: Path, whole: Files, number: int, draw: random.Random) -> Counter[str]:
    """Flip one bit `number` times, each in a copy of the finished run."""
    counts = Counter({"tried": 0, "made good": 0, "refused": 0, "accepted in silence": 0})
    names = [name for name, content in whole.items() if content]
    for _ in range(number):
        out = root / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(root / "whole", out)
        content = bytearray(whole[name := draw.choice(names)])
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (out / name).write_bytes(content)
        counts["tried"] += 1
        try:
            edit.run(config, root / "in", out)
            made_good = files_of(out) == whole
            counts["made good" if made_good else "accepted in silence"] += 1
            if not made_good:
                print(f"accepted in silence: {name}")
        except TailkeepError:
            counts["refused"] += 1
    return counts


if __name__ == "__main__":
    main()
