"""What a file costs: the processor time of work on many files of one document, and on one file with all of them.

    python benchmarks/tiny_files.py --prior FOLDER [--documents 400] [--characters 1000] [--rounds 3]    # edits
    python benchmarks/tiny_files.py --verb audit      # or forecast

Both runs read the same documents and are made in turn, in one process, after one that is not counted. Printed are the
processor seconds of each, all threads together, and their ratio: the median of the rounds and its range. The start of
the command, some seconds of imports, is left out.
"""

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from tailkeep import audit, edit, forecast

SENTENCE = "Once upon a time there was a girl with {} cats and a small red ball. "


def write_documents(folder: Path, documents: int, characters: int) -> tuple[Path, Path]:
    """A file of all documents, and a folder with a file for each."""
    (folder / "many").mkdir()
    lines = []
    for number in range(documents):
        sentence = SENTENCE.format(number)
        text = (sentence * (characters // len(sentence) + 1))[:characters].strip()
        lines.append(json.dumps({"id": str(number), "text": text}) + "\n")
        (folder / "many" / f"{number:06d}.jsonl").write_text(lines[-1])
    (folder / "one.jsonl").write_text("".join(lines))
    return folder / "one.jsonl", folder / "many"


VERBS: dict[str, Any] = {"edit": edit.run, "audit": audit.run, "forecast": forecast.run}


def processor_seconds(verb: str, prior: str | None, source: Path, out: Path) -> float:
    """The processor time of one run."""
    start = time.process_time()
    VERBS[verb]({"prior": {"path": prior}} if prior else {}, source, out)
    return time.process_time() - start


def main() -> None:
    """Make both runs a few times and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verb", choices=list(VERBS), default="edit")
    parser.add_argument("--prior", help="needed by an edit, possible for an audit")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if (arguments.verb, arguments.prior) == ("edit", None):
        parser.error("an edit needs --prior FOLDER")
    measure = partial(processor_seconds, arguments.verb, arguments.prior)
    ratios = []
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as name:
        root = Path(name)
        one, many = write_documents(root, arguments.documents, arguments.characters)
        measure(one, root / "warm")
        for number in range(arguments.rounds):
            seconds = [measure(source, root / f"{source.stem}-{number}") for source in (one, many)]
            ratios.append(seconds[1] / seconds[0])
            print(f"one file {seconds[0]:.2f} s, {arguments.documents} files {seconds[1]:.2f} s: {ratios[-1]:.2f}")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


if __name__ == "__main__":
    main()
