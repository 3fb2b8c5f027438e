"""Calibration of the audit's share of synthetic documents: coverage of its 90 % interval on known mixtures.

    python benchmarks/share.py --paired FOLDER [--documents DOMAIN/GENERATOR=FOLDER ...] [--half test] [--mixtures 200]

FOLDER of --paired holds `<domain>_<generator>.raw_data.json`, human and synthetic texts of the same prompts, whose
common beginning is cut off; those of --documents hold human.jsonl and machine.jsonl, see `examples/write_documents.py`.
Blocks of ten consecutive pairs, or of the documents of one article, are dealt by hash into two halves. `--half dev` is
for development. `--half test` is for the published tables: the corpora are of the other half, which development never
saw. Per mixture, all blocks of the first half and a quarter of those of the second are the references, the other three
quarters the corpus; of a pair either the human or the synthetic text is taken.

in-domain   the references are of the domain and the generator of the corpus
generator   leave one generator out: the synthetic reference is of the other generators of the domain
domain      leave one domain out: both references are of all other domains

--divisions N divides the blocks N times, so that rows do not hang on one division; development then saw the corpora.
--shuffled deals single pairs or documents, not blocks, so that related ones lie anywhere on all sides.

A refusal is no hit. `coverage` is that of the named shares, with Wilson's 95 % interval; `lower` that of the lower
ends, nominally 95 %.
"""

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailkeep.audit.config import SampleConfig, ShareConfig
from tailkeep.audit.documents import SampledDocument
from tailkeep.audit.prior_scores import PriorScorer, statistics_of
from tailkeep.audit.share import ScoredCorpus, estimate_share, score_corpus
from tailkeep.metrics import binomial_interval

PAIRS_PER_BLOCK = 10
HEADER = (
    "design", "references", "corpus", "share", "documents", "words", "auc", "estimate", "width", "mixtures", "refused",
    "hits", "coverage", "low", "high", "lower",
)  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A text with the block that it is dealt with, and its pair, if it has one."""

    text: str
    block: str
    pair: int


@dataclass(frozen=True, eq=False)
class Collection:
    """Human and synthetic texts of one domain and one generator."""

    domain: str
    generator: str
    human: list[Text]
    machine: list[Text]

    @property
    def name(self) -> str:
        """Such as squad/gpt2-xl."""
        return f"{self.domain}/{self.generator}"


def read_paired(path: Path, *, shuffled: bool = False, with_prompts: bool = False) -> Collection:
    """The pairs of one file, as a rule without their common beginning. `shuffled`, each is a block of its own."""
    domain, _, generator = path.name.removesuffix(".raw_data.json").partition("_")
    tree = json.loads(path.read_text(encoding="utf-8"))
    sides: tuple[list[Text], list[Text]] = ([], [])
    pairs = list(enumerate(zip(tree["original"], tree["sampled"], strict=True)))
    if shuffled:
        pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    for pair, texts in pairs:
        block = f"{domain}-{pair if shuffled else pair // PAIRS_PER_BLOCK}"
        words = [text.split() for text in texts]
        common = next((i for i, (a, b) in enumerate(zip(*words, strict=False)) if a != b), min(map(len, words)))
        for side, text in zip(sides, words, strict=True):
            side.append(Text(" ".join(text if with_prompts else text[common:]), block, pair))
    return Collection(domain, generator, *sides)


def read_documents(argument: str, *, shuffled: bool = False) -> Collection:
    """The documents of `DOMAIN/GENERATOR=FOLDER`. `shuffled`, each is a block of its own."""
    name, _, folder = argument.partition("=")
    domain, _, generator = name.partition("/")

    def read_side(side: str) -> list[Text]:
        rows = [json.loads(line) for line in (Path(folder) / f"{side}.jsonl").read_text(encoding="utf-8").splitlines()]
        order = np.random.default_rng(0).permutation(len(rows)).tolist() if shuffled else range(len(rows))
        return [Text(rows[i]["text"], f"{side}-{i}" if shuffled else rows[i]["source"], -1) for i in order]

    human, machine = read_side("human"), read_side("machine")
    place = {item.block: number for number, item in enumerate(human)}
    # Ordered, both sides are in the order of the articles: neighbours share a topic, as in most files.
    return Collection(domain, generator, human, sorted(machine, key=lambda item: place.get(item.block, len(place))))


def is_first_half(block: str, division: int = 0) -> bool:
    """Whether the block belongs to the first half of a division; of division 0 that is the one for development."""
    key = f"{division}/{block}" if division else block
    return hashlib.blake2b(key.encode(), digest_size=1).digest()[0] % 2 == 0


def select_blocks(
    blocks: Sequence[str], half: str, rng: np.random.Generator, division: int = 0
) -> tuple[set[str], set[str]]:
    """The blocks of the references and of the corpus of one mixture."""
    first = [block for block in blocks if is_first_half(block, division)]
    second = [block for block in blocks if not is_first_half(block, division)]
    if half == "dev":
        order = [first[i] for i in rng.permutation(len(first))]
        return set(order[: len(order) // 2]), set(order[len(order) // 2 :])
    order = [second[i] for i in rng.permutation(len(second))]
    return {*first, *order[: len(order) // 4]}, set(order[len(order) // 4 :])


def draw_rows(
    human: Sequence[Text], machine: Sequence[Text], share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of `[*human, *machine]` of a corpus with this `share` of synthetic texts, none of a pair twice."""
    if human and human[0].pair >= 0:
        pairs = rng.permutation(len(human))
        number = round(share * len(pairs))
        return np.concatenate([pairs[number:], pairs[:number] + len(human)])
    total = min(len(human), int(len(machine) / max(share, 1e-9)))
    number = round(share * total)
    from_human = rng.choice(len(human), total - number, replace=False)
    return np.concatenate([from_human, len(human) + rng.choice(len(machine), number, replace=False)])


class Calibration:
    """Mixtures of one design; `statistics` are those of a prior by text, if there is one."""

    def __init__(
        self,
        half: str,
        mixtures: int,
        resamples: int,
        statistics: Mapping[str, NDArray[np.float64]],
        *,
        divisions: int = 1,
    ) -> None:
        self._half, self._mixtures, self._statistics, self._divisions = half, mixtures, statistics, divisions
        self._config = ShareConfig(resamples=resamples)

    def rows(
        self, design: str, references: Sequence[Collection], corpus: Collection, shares: Sequence[float]
    ) -> Iterator[dict[str, object]]:
        """One row per share."""
        results: dict[float, list[tuple[float, ...]]] = {share: [] for share in shares}
        for number in range(self._mixtures):
            rng = np.random.default_rng((number, 1))
            # Division 0 alone, or the divisions 1 to n in turn.
            division = 1 + number % self._divisions if self._divisions > 1 else 0
            sides, scored = self._score(references, corpus, rng, division)
            for share in shares:
                rows = draw_rows(*sides, share, rng)
                # A text that is too short is not judged, so it is not counted either.
                judged = {int(item.id): at for at, item in enumerate(scored.sides["input"].documents)}
                rows = np.array([row for row in rows if row in judged], np.int64)
                truth = float((rows >= len(sides[0])).mean())
                estimate = estimate_share(scored, self._config, number, np.array([judged[row] for row in rows]))
                low, high = estimate.low, estimate.high
                named = estimate.share is not None
                results[share].append((
                    len(rows), scored.words, scored.separation, named,
                    estimate.share if named else np.nan, high - low if named else np.nan,
                    named and low <= truth <= high, named and low <= truth,
                ))  # fmt: skip
        for share, values in results.items():
            table = np.array(values, np.float64)
            named, hits = int(table[:, 3].sum()), int(table[:, 6].sum())
            interval = binomial_interval(hits, named)
            estimate_mean, width = table[table[:, 3] > 0][:, 4:6].mean(axis=0) if named else (np.nan, np.nan)
            figures = (
                share, table[:, 0].mean(), table[:, 1].mean(), table[:, 2].mean(), estimate_mean, width, len(table),
                len(table) - named, hits, *interval, table[:, 7].sum() / named if named else np.nan,
            )  # fmt: skip
            names = (design, " + ".join(item.name for item in references), corpus.name)
            yield dict(zip(HEADER, (*names, *figures), strict=True))

    def _score(
        self, references: Sequence[Collection], corpus: Collection, rng: np.random.Generator, division: int
    ) -> tuple[tuple[list[Text], list[Text]], ScoredCorpus]:
        everything = [*references, corpus]
        blocks = sorted({item.block for one in everything for item in [*one.human, *one.machine]})
        reference_blocks, corpus_blocks = select_blocks(blocks, self._half, rng, division)
        sides = tuple([item for item in side if item.block in corpus_blocks] for side in (corpus.human, corpus.machine))
        # Two generators of one domain share their human texts.
        human = dict.fromkeys(item.text for one in references for item in one.human if item.block in reference_blocks)
        machine = [item.text for one in references for item in one.machine if item.block in reference_blocks]
        texts = {"input": [item.text for side in sides for item in side], "reference": [*human], "synthetic": machine}
        samples = {side: as_sample(items) for side, items in texts.items()}
        # In the order of pairs or of articles: neighbours share a topic, as in most files.
        place = {block: number for number, block in enumerate(dict.fromkeys(item.block for item in corpus.human))}
        keys = [(place.get(item.block, len(place)), item.pair) for side in sides for item in side]
        order = sorted(range(len(keys)), key=lambda row: keys[row])
        samples["input"] = [replace(samples["input"][row], location=f"x:{i}") for i, row in enumerate(order)]
        texts["input"] = [texts["input"][row] for row in order]
        statistics = {side: {f"x:{i}": self._statistics[text] for i, text in enumerate(items)}
                      for side, items in texts.items()} if self._statistics else None  # fmt: skip
        return (sides[0], sides[1]), score_corpus(samples, SampleConfig(), statistics)


def as_sample(texts: Sequence[str]) -> list[SampledDocument]:
    """`texts` as an audit samples them, each with its number as its id."""
    return [SampledDocument(i, f"x:{i}", str(i), len(text.encode()), text) for i, text in enumerate(texts)]


def designs_of(
    collections: Sequence[Collection], names: Sequence[str]
) -> Iterator[tuple[str, list[Collection], Collection]]:
    """Each design with its references and its corpus."""
    for corpus in collections:
        others = [item for item in collections if item.domain == corpus.domain and item is not corpus]
        if "in-domain" in names:
            yield "in-domain", [corpus], corpus
        if "generator" in names and others:
            yield "generator", others, corpus
        others = [item for item in collections if item.domain != corpus.domain]
        if "domain" in names and others:
            yield "domain", others, corpus


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paired", type=Path)
    parser.add_argument("--documents", nargs="*", default=[], metavar="DOMAIN/GENERATOR=FOLDER")
    parser.add_argument("--half", choices=("dev", "test"), default="test")
    parser.add_argument("--shuffled", action="store_true", help="deal single rows, in any order")
    parser.add_argument("--with-prompts", action="store_true", help="leave the common beginning of pairs in")
    parser.add_argument("--divisions", type=int, default=1, help="so many divisions into halves, in turn")
    parser.add_argument("--designs", nargs="+", default=["in-domain", "generator", "domain"])
    parser.add_argument("--mixtures", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.3, 0.6])
    parser.add_argument("--prior", help="also use the scores of this model")
    options = parser.parse_args()
    paired = sorted(options.paired.glob("*.raw_data.json")) if options.paired else []
    shuffled, with_prompts = options.shuffled, options.with_prompts
    pairs = [read_paired(path, shuffled=shuffled, with_prompts=with_prompts) for path in paired]
    collections = [*pairs, *(read_documents(argument, shuffled=shuffled) for argument in options.documents)]
    statistics: dict[str, NDArray[np.float64]] = {}
    if options.prior:
        texts = sorted({item.text for one in collections for item in [*one.human, *one.machine]})
        scorer = PriorScorer({"path": options.prior})
        statistics = dict(zip(texts, map(statistics_of, scorer.log_probs(texts)), strict=True))
    calibration = Calibration(
        options.half, options.mixtures, options.resamples, statistics, divisions=options.divisions
    )
    writer = csv.DictWriter(sys.stdout, HEADER, lineterminator="\n")
    writer.writeheader()
    for design, references, corpus in designs_of(collections, options.designs):
        for row in calibration.rows(design, references, corpus, options.shares):
            writer.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})
            sys.stdout.flush()


if __name__ == "__main__":
    main()
