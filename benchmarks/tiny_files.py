"""What a file costs: the processor time of an edit of many files of one document, and of one file with all of them.

    python benchmarks/tiny_files.py --prior FOLDER [--documents 400] [--characters 1000] [--rounds 3]

Both edits read the same documents and are run in turn, in one process, after one that is not counted. Printed are the
processor seconds of each, all threads together, and their ratio: the median of the rounds and its range.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from tailkeep import edit

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


def processor_seconds(prior: str, source: Path, out: Path) -> float:
    """The processor time of one edit."""
    start = time.process_time()
    edit.run({"prior": {"path": prior}}, source, out)
    return time.process_time() - start


def main() -> None:
    """Run both edits a few times and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", required=True)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory(prefix="tailkeep-") as name:
        root = Path(name)
        one, many = write_documents(root, arguments.documents, arguments.characters)
        processor_seconds(arguments.prior, one, root / "warm")
        for number in range(arguments.rounds):
            seconds = [
                processor_seconds(arguments.prior, source, root / f"{source.stem}-{number}") for source in (one, many)
            ]
            ratios.append(seconds[1] / seconds[0])
            print(f"one file {seconds[0]:.2f} s, {arguments.documents} files {seconds[1]:.2f} s: {ratios[-1]:.2f}")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


if __name__ == "__main__":
    main()
