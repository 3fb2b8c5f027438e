"""Documents of an audited corpus chosen by weight.

    perplexity   keep the documents that the prior expects most    CCNet (Wenzek et al. 2020, arXiv 1911.00359)
    surplexity   keep those that it expects least                  Gambetta et al. 2024 (arXiv 2410.12341)
    dsir         draw by likeness to the reference                 DSIR (Xie et al. 2023, arXiv 2302.03169)
    scores       weights from elsewhere: a detector, a verifier    Drayson et al. 2025; Feng et al. 2406.07515

Rule: a weight is a function of the document, the audit and the seed; what is kept is a share of all files together.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig, load
from tailkeep.audit.shard import read_counts
from tailkeep.data.corpus import Rejected, find_shards, read_shard, write_weights
from tailkeep.data.counters import merge_counts
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import RunDirectory

Method = Literal["perplexity", "surplexity", "dsir", "scores"]
Judge = Callable[[str], float]
"""A text -> its weight, from 0 up."""

_PART = re.compile(r"/\d{6}-\d{6}$")


@dataclass(frozen=True)
class SelectionCounts:
    """How many of the documents have a weight above 0, in how many files."""

    documents: int
    selected: int
    files: int


def select(
    audited: str | Path,
    out: str | Path,
    method: Method,
    *,
    keep: float = 0.5,
    seed: int = 0,
    inputs: str | Path | Sequence[str | Path] = (),
    scores: Path | Judge | None = None,
) -> SelectionCounts:
    """Weigh the documents that the finished audit at `audited` has read, into `out`/weights/.

    Args:
        audited: the output of an audit; with a prior for `perplexity` and `surplexity`, with a reference for `dsir`.
        out: a folder.
        method: see this module; `perplexity`, `surplexity` and `dsir` give the weights 1 and 0.
        keep: the share of the documents with the weight 1.
        seed: of `dsir`, which draws without replacement.
        inputs: the audited input again, for methods that read it: `dsir`, and `scores` with a function.
        scores: of the method `scores`, a jsonl file of {"document_id", "score"}, or a function of the text.

    Raises:
        ConfigError: an argument is missing, or would do nothing.
        InputError: the audit lacks what the method needs.
    """
    run = RunDirectory.open(Path(audited))
    if run.record.kind != "audit" or not (run.path / "summary.json").is_file():
        raise InputError(f"{audited} is no finished audit. Give the --out of tailkeep audit, run to its end.")
    if not 0 < keep < 1:
        raise ConfigError(f"keep={keep} keeps all or none. Give a share between 0 and 1.")
    _refuse_idle(method, bool(inputs), scores)
    match method:
        case "perplexity" | "surplexity":
            found = _kept(_surprise(run.path), keep, rising=method == "perplexity")
        case "dsir":
            found = _kept(_likeness(run.path, inputs, seed), keep, rising=False)
        case "scores":
            assert scores is not None
            found = _from_file(run.path, scores) if isinstance(scores, Path) else _judged(run.path, inputs, scores)
    for name, (ids, weights) in found.items():
        write_weights(Path(out), name, ids, weights, method=method, fingerprint=run.record.fingerprint)
    return SelectionCounts(
        sum(len(ids) for ids, _ in found.values()), sum(int((w > 0).sum()) for _, w in found.values()), len(found)
    )


Weighted = dict[str, tuple[list[str], NDArray[np.float64]]]
"""By the name of a file: the ids of its documents, and a number for each."""


def _refuse_idle(method: Method, has_inputs: bool, scores: Path | Judge | None) -> None:
    reads = method == "dsir" or (method == "scores" and not isinstance(scores, Path))
    if reads and not has_inputs:
        raise ConfigError(f"{method} reads the documents again. Give the audited input.")
    if has_inputs and not reads:
        raise ConfigError(f"the input does nothing for {method}, which reads what the audit has left. Leave it out.")
    if (method == "scores") != (scores is not None):
        raise ConfigError("scores belong to the method 'scores'. Give both or neither.")


def _kept(values: Weighted, keep: float, *, rising: bool) -> Weighted:
    """The weight 1 for the share `keep` of all documents, with the lowest or highest values; ties by their place."""
    flat = np.concatenate([np.zeros(0), *(numbers for _, numbers in values.values())])
    order = np.argsort(flat if rising else -flat, kind="stable")
    weights = np.zeros(len(flat))
    weights[order[: round(keep * len(flat))]] = 1.0
    ends = np.cumsum([len(ids) for ids, _ in values.values()])
    parts = np.split(weights, ends[:-1]) if len(ends) else []
    return {name: (ids, part) for (name, (ids, _)), part in zip(values.items(), parts, strict=True)}


def _surprise(audited: Path) -> Weighted:
    """The mean -ln p of each document; one without a scored token has that of the middle, which says nothing."""
    found: dict[str, tuple[list[str], list[NDArray[np.float64]]]] = {}
    files = sorted((audited / "scores" / "input").rglob("*.parquet"))
    if not files:
        raise InputError(f"{audited} was audited without a prior. Run the audit with --prior, then select.")
    for file in files:
        key = file.relative_to(audited / "scores" / "input").as_posix().removesuffix(".parquet")
        table = pq.ParquetFile(file).read()
        tokens, totals = (table[name].to_numpy().astype(np.float64) for name in ("tokens", "log_prob"))
        ids, parts = found.setdefault(_PART.sub("", key), ([], []))
        ids += table["document_id"].to_pylist()
        parts.append(np.divide(-totals, tokens, out=np.full(len(tokens), np.nan), where=tokens > 0))
    whole = {name: (ids, np.concatenate(parts)) for name, (ids, parts) in found.items()}
    middle = float(np.nanmedian(np.concatenate([numbers for _, numbers in whole.values()])))
    return {name: (ids, np.nan_to_num(numbers, nan=middle)) for name, (ids, numbers) in whole.items()}


def _likeness(audited: Path, inputs: str | Path | Sequence[str | Path], seed: int) -> Weighted:
    """ln p(x) / q(x) of each document and a Gumbel number: the highest are a draw without replacement."""
    sides = [_buckets(audited, side) for side in ("input", "reference")]
    logs = log_ratios(sides[0], sides[1])
    rng = np.random.default_rng(seed)
    found: Weighted = {}
    for name, texts in _texts(audited, inputs):
        # One by one: the words of a whole file would take many times its memory.
        values = [float((count_features([text]) @ logs)[0]) for text in texts.values()]
        found[name] = (list(texts), np.array(values, np.float64) + rng.gumbel(size=len(values)))
    return found


def _buckets(audited: Path, side: str) -> NDArray[np.int64]:
    files = sorted((audited / "counts" / side).rglob("*.parquet"))
    if not files:
        raise InputError(f"{audited} was audited without a reference. Run the audit with --reference, then select.")
    counts = merge_counts([read_counts(file) for file in files])
    return counts["buckets/1"] + counts["buckets/2"]


def _judged(audited: Path, inputs: str | Path | Sequence[str | Path], judge: Judge) -> Weighted:
    return {
        name: (list(texts), np.array([float(judge(text)) for text in texts.values()]))
        for name, texts in _texts(audited, inputs)
    }


def _from_file(audited: Path, path: Path) -> Weighted:
    """The scores of a file, for the documents of the audit's one input file."""
    names = sorted({_PART.sub("", file.relative_to(audited / "counts" / "input").as_posix().removesuffix(".parquet"))
                    for file in (audited / "counts" / "input").rglob("*.parquet")})  # fmt: skip
    if len(names) > 1:
        raise ConfigError(f"a file of scores is for one input file, and the audit has {len(names)}. Give a function.")
    ids, weights = [], []
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            number += 1
            item = json.loads(line)
            ids.append(str(item["document_id"]))
            weights.append(float(item["score"]))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Give a file of scores.") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f'{path}, line {number}: no {{"document_id": ..., "score": number}}. Write one a line.'
        ) from None
    return {names[0]: (ids, np.array(weights, np.float64))}


def _texts(audited: Path, inputs: str | Path | Sequence[str | Path]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Each input file's name, and its documents by id."""
    config: AuditConfig = load(audited / "config.yaml")
    for shard in find_shards(inputs):
        found: dict[str, str] = {}
        for item in read_shard(shard, config.layout):
            if not isinstance(item, Rejected):
                if item.id in found:
                    raise InputError(f"{item.where}: the id {item.id!r} is there twice. Give each document its own.")
                found[item.id] = "\n".join(item.texts.values())
        yield shard.name, found
