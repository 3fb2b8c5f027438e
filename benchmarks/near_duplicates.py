"""Near-duplicates in a corpus with a known share of them: how many an audit counts, its time and its memory.

    python benchmarks/near_duplicates.py DATA/text/*.txt [--megabytes 100 1000] [--workers 1] [--copies 0.1]

A document is 12 sentences of the files in random order. A copy, `--copies` of all, is an earlier document in which each
word is another one with probability 0.5, 2 or 5 %, a third of the copies each. Exact Jaccard similarities of the runs
of five words are computed on the way, so the number that MinHash should count is known: the sum over copies of
1 - (1 - J^rows)^bands. A little more is counted, since copies of one document can match each other too; `--copies 0`
shows what documents that share sentences by chance add. Each audit is the whole command in fresh processes, with and
without --near-duplicates.
"""

import argparse
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from edit_cost.measuring import run_command
from numpy.typing import NDArray

from tailkeep.audit.config import NearDuplicateConfig

SENTENCES, SHARD_BYTES = 12, 50_000_000
CHANGED = (0.005, 0.02, 0.05)
RULE = NearDuplicateConfig()


def read_sentences(paths: Sequence[Path]) -> list[str]:
    """All different sentences of at least eight words."""
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in paths)
    return list(dict.fromkeys(part for part in re.split(r"(?<=[.!?]) +", text) if len(part.split()) >= 8))


def document_words(sentences: Sequence[str], number: int) -> list[str]:
    """The words of original document `number`, a function of the arguments alone."""
    chosen = np.random.default_rng([1, number]).integers(len(sentences), size=SENTENCES)
    return " ".join(sentences[index] for index in chosen).split()


def change_words(words: Sequence[str], vocabulary: NDArray[np.str_], share: float, number: int) -> list[str]:
    """`words` with each replaced by a random word with probability `share`."""
    rng = np.random.default_rng([2, number])
    others = rng.choice(vocabulary, size=len(words))
    return np.where(rng.random(len(words)) < share, others, words).tolist()


def jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    """The Jaccard similarity of the runs of words of two documents."""
    one, other = ({tuple(words[i : i + RULE.shingle]) for i in range(len(words))} for words in (first, second))
    return len(one & other) / len(one | other)


def make_documents(sentences: Sequence[str], copies: float) -> Iterator[tuple[str, float]]:
    """Documents without end, each with its similarity to the one it was copied from, 0 for an original."""
    vocabulary = np.array(sorted({word for sentence in sentences for word in sentence.split()}))
    rng, originals = np.random.default_rng(0), list[int]()
    for number in itertools.count():
        if originals and rng.random() < copies:
            original = document_words(sentences, originals[rng.integers(len(originals))])
            words = change_words(original, vocabulary, CHANGED[number % len(CHANGED)], number)
            yield " ".join(words), jaccard(words, original)
        else:
            originals.append(number)
            yield " ".join(document_words(sentences, number)), 0.0


def write_corpus(folder: Path, sentences: Sequence[str], size: int, copies: float) -> dict[str, float]:
    """Write files of documents of `size` bytes together, and return what is known of them."""
    documents, written = make_documents(sentences, copies), 0
    known = {"documents": 0, "copies": 0, "expected": 0.0}
    while written < size:
        with (folder / f"{written // SHARD_BYTES:04d}.jsonl").open("w", encoding="utf-8") as file:
            while file.tell() < min(SHARD_BYTES, size - written):
                text, similarity = next(documents)
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                known["documents"] += 1
                known["copies"] += similarity > 0
                known["expected"] += 1 - (1 - similarity**RULE.rows) ** RULE.bands
            written += file.tell()
    return known


def audit(corpus: Path, out: Path, workers: int, *extra: str) -> dict[str, Any]:
    """The cost of one command, and the figures of its input."""
    command = [sys.executable, "-m", "tailkeep", "audit", "--input", f"{corpus}/*.jsonl", "--out", str(out)]
    spent = run_command([*command, "--workers", str(workers), *extra])
    return {**spent, **json.loads((out / "summary.json").read_text(encoding="utf-8"))["input"]}


def main() -> None:
    """Make each corpus and audit it twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="+")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[100, 1000])
    parser.add_argument("--copies", type=float, default=0.1, help="share of near-copies")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    sentences = read_sentences(options.text)
    print(f"{len(sentences):,} sentences, {options.copies:.0%} copies, workers: {options.workers}")
    print("| MB | documents | copies | should be counted | counted | CPU s | CPU s without | peak MiB of a process |")
    print("|---|---|---|---|---|---|---|---|")
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(prefix="tailkeep-bench-") as name:
            corpus = Path(name, "corpus")
            corpus.mkdir()
            known = write_corpus(corpus, sentences, round(megabytes * 1e6), options.copies)
            near = audit(corpus, Path(name, "near"), options.workers, "--near-duplicates")
            without = audit(corpus, Path(name, "without"), options.workers)
            print(
                f"| {megabytes:g} | {known['documents']:,} | {known['copies']:,} | {known['expected']:,.0f} | "
                f"{near['near_duplicates']:,} | {near['cpu_seconds']:.0f} | {without['cpu_seconds']:.0f} | "
                f"{near['peak_mib']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
