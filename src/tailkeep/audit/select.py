"""Select documents of an audited corpus: a weight per document.

    perplexity   keep the lowest perplexity                        CCNet (Wenzek et al. 2020, arXiv 1911.00359)
    surplexity   keep the highest perplexity                       Gambetta et al. 2024 (arXiv 2410.12341)
    dsir         resample by importance for the reference          DSIR (Xie et al. 2023, arXiv 2302.03169)
    scores       external weights: a detector, a verifier          Drayson et al. 2025; Feng et al. 2406.07515

Rule: a weight is a function of the document, the audit and the seed. `keep` is a share of all files together.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig, load
from tailkeep.audit.shard import read_counts
from tailkeep.data import read_values
from tailkeep.data.corpus import (
    Rejected,
    Shard,
    check_recorded,
    check_unchanged,
    file_of_key,
    find_shards,
    open_destination,
    read_manifest,
    read_shard,
    sum_counts,
    write_weights,
)
from tailkeep.data.counters import merge_counts
from tailkeep.data.documents import open_rejects
from tailkeep.data.hashing import count_features, log_ratios
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.runs import RunDirectory, read_sealed
from tailkeep.runs.storage import files_below

Method = Literal["perplexity", "surplexity", "dsir", "scores"]
ScoreFunction = Callable[[str], float]
"""A text -> its weight, >= 0."""


@dataclass(frozen=True)
class SelectionCounts:
    """The numbers of documents, of documents with a weight > 0, of files, and of documents without a weight.

    `first_rejected` is the place and the reason of the first of these.
    """

    documents: int
    selected: int
    files: int
    rejected: int = 0
    first_rejected: str = ""


def select(
    audit_dir: str | Path,
    out: str | Path,
    method: Method,
    *,
    keep: float | None = None,
    seed: int | None = None,
    inputs: str | Path | Sequence[str | Path] = (),
    scores: Path | ScoreFunction | None = None,
    skip: bool | None = None,
) -> SelectionCounts:
    """Write weights for the documents of the finished audit at `audit_dir` into `out`/weights/.

    Args:
        audit_dir: the output of an audit, with a prior for `perplexity` and `surplexity`, with a reference for `dsir`.
        out: a folder.
        method: see this module. `perplexity`, `surplexity` and `dsir` give weights of 1 and 0.
        keep: the share of the documents with weight 1, for all methods but `scores`; one half if None.
        seed: seed of `dsir`, which samples without replacement; 0 if None.
        inputs: the audited input again, for `dsir`, and for `scores` with a function.
        scores: for `scores`, a file of {"document_id", "score"}, such as .jsonl, one for each audited document, or a
            function of the text.
        skip: whether a document that cannot be read or has the id of an earlier one gets no weight and is written to
            `out`/rejects.jsonl, or stops the work; by default as in the audit.

    Raises:
        ConfigError: an argument is missing or has no effect.
        InputError: the audit was run without what the method needs, or a document is at fault.
    """
    run = RunDirectory.open(Path(audit_dir))
    if run.record.kind != "audit" or not (run.path / "summary.json").is_file():
        raise InputError(f"{audit_dir} is not a finished audit. Give the --out of a tailkeep audit that has finished.")
    read_sealed(run.path / "summary.json", advice="Run the same audit again, which writes it anew.")
    _check_arguments(method, bool(inputs), scores, keep, seed)
    keep, seed = 0.5 if keep is None else keep, seed or 0
    config: AuditConfig = load(run.path / "config.yaml")
    with open_rejects(Path(out) / "rejects.jsonl") as rejects:
        reject = rejects if (config.on_error == "skip" if skip is None else skip) else _stop
        match method:
            case "perplexity" | "surplexity":
                weights = _keep_share(_surprise(run.path, reject), keep, ascending=method == "perplexity")
            case "dsir":
                texts = _texts(run.path, config, inputs, reject)
                weights = _keep_share(_perturbed_importance(run.path, texts, seed), keep, ascending=False)
            case "scores":
                assert scores is not None
                if isinstance(scores, Path):
                    weights = _read_scores(run.path, scores, reject)
                else:
                    weights = _apply_function(_texts(run.path, config, inputs, reject), scores)
    for name, (ids, values) in weights.items():
        write_weights(Path(out), name, ids, values, method=method, fingerprint=run.record.fingerprint)
    return SelectionCounts(
        documents=sum(len(ids) for ids, _ in weights.values()),
        selected=sum(int((values > 0).sum()) for _, values in weights.values()),
        files=len(weights),
        rejected=rejects.count,
        first_rejected=rejects.first,
    )


Reject = Callable[[Rejected], None]


def _stop(rejected: Rejected) -> None:
    raise InputError(f"{rejected.where}: {rejected.reason}. Repair it, or give --on-error skip.")


def _first_of_id(ids: Sequence[str], where: Callable[[int], str], reject: Reject) -> list[int]:
    """The numbers of the documents `ids` whose id no earlier one has; the others are rejected."""
    first: dict[str, int] = {}
    for number, name in enumerate(ids):
        if first.setdefault(name, number) != number:
            reject(Rejected(number, f"the id {name!r} occurs twice", where(number)))
    return list(first.values())


DocumentValues = dict[str, tuple[list[str], NDArray[np.float64]]]
"""File name -> the ids of its documents, and a value for each."""


def _check_arguments(
    method: Method, has_inputs: bool, scores: Path | ScoreFunction | None, keep: float | None, seed: int | None
) -> None:
    if keep is not None and method == "scores":
        raise ConfigError("keep has no effect with method scores, whose weights are the scores. Remove it.")
    if keep is not None and not 0 < keep < 1:
        raise ConfigError(f"keep must be between 0 and 1 (both excluded), got {keep}.")
    if seed is not None and method != "dsir":
        raise ConfigError(f"a seed has no effect with method {method}, which draws nothing. Remove it.")
    reads = method == "dsir" or (method == "scores" and not isinstance(scores, Path))
    if reads and not has_inputs:
        raise ConfigError(f"method {method} reads the documents again. Give the audited input (inputs=, --input).")
    if has_inputs and not reads:
        raise ConfigError(
            f"an input has no effect with method {method}, which reads the files of the audit. Remove it."
        )
    if (method == "scores") != (scores is not None):
        raise ConfigError(
            f"scores and the method 'scores' belong together, got method {method!r}. Give both or neither."
        )


def _keep_share(values: DocumentValues, keep: float, *, ascending: bool) -> DocumentValues:
    """Weight 1 for the share `keep` of all documents with the lowest or highest values; ties by position."""
    flat = np.concatenate([np.zeros(0), *(numbers for _, numbers in values.values())])
    order = np.argsort(flat if ascending else -flat, kind="stable")
    weights = np.zeros(len(flat))
    weights[order[: round(keep * len(flat))]] = 1.0
    ends = np.cumsum([len(ids) for ids, _ in values.values()])
    parts = np.split(weights, ends[:-1]) if len(ends) else []
    return {name: (ids, part) for (name, (ids, _)), part in zip(values.items(), parts, strict=True)}


def _surprise(audit_dir: Path, reject: Reject) -> DocumentValues:
    """The mean -ln p of each document in nats/token. A document without scored tokens gets the median."""
    parts_by_file: dict[str, tuple[list[str], list[NDArray[np.float64]]]] = {}
    files = files_below(audit_dir / "scores" / "input", ".parquet")
    if not files:
        raise InputError(f"{audit_dir} was audited without a prior. Run the audit with --prior, then select.")
    check_recorded(audit_dir, files)
    for file in files:
        key = file.relative_to(audit_dir / "scores" / "input").as_posix().removesuffix(".parquet")
        table = pq.ParquetFile(file).read()
        tokens, totals = (table[name].to_numpy().astype(np.float64) for name in ("tokens", "log_prob"))
        ids, parts = parts_by_file.setdefault(file_of_key(key), ([], []))
        ids += table["document_id"].to_pylist()
        parts.append(np.divide(-totals, tokens, out=np.full(len(tokens), np.nan), where=tokens > 0))
    values = {name: (ids, np.concatenate(parts)) for name, (ids, parts) in parts_by_file.items()}
    for name, (ids, numbers) in values.items():
        first = _first_of_id(ids, lambda number, name=name: f"{name}, document {number}, from 0", reject)  # type: ignore[misc]
        values[name] = ([ids[number] for number in first], numbers[first])
    median = float(np.nanmedian(np.concatenate([numbers for _, numbers in values.values()])))
    return {name: (ids, np.nan_to_num(numbers, nan=median)) for name, (ids, numbers) in values.items()}


def _perturbed_importance(audit_dir: Path, files: "TextsOfFiles", seed: int) -> DocumentValues:
    """ln p(x) / q(x) of each document plus Gumbel noise: the top k are a sample without replacement."""
    sides = [files_below(audit_dir / "counts" / side, ".parquet") for side in ("input", "reference")]
    if not all(sides):
        raise InputError(f"{audit_dir} was audited without a reference. Run the audit with --reference, then select.")
    check_recorded(audit_dir, chain(*sides))
    logs = log_ratios(*map(_buckets, sides))
    rng = np.random.default_rng(seed)
    perturbed: DocumentValues = {}
    for name, texts in files:
        # One document at a time, since the words of a whole file would use many times its memory.
        values = [float((count_features([text]) @ logs)[0]) for text in texts.values()]
        perturbed[name] = (list(texts), np.array(values, np.float64) + rng.gumbel(size=len(values)))
    return perturbed


def _buckets(files: Sequence[Path]) -> NDArray[np.int64]:
    counts = merge_counts([read_counts(file) for file in files])
    return counts["buckets/1"] + counts["buckets/2"]


def _apply_function(files: "TextsOfFiles", function: ScoreFunction) -> DocumentValues:
    return {name: (list(texts), np.array([float(function(text)) for text in texts.values()])) for name, texts in files}


def _read_scores(audit_dir: Path, path: Path, reject: Reject) -> DocumentValues:
    """The scores of a file, for an audit of a single input file."""
    names = _audited_files(audit_dir)
    if len(names) > 1:
        raise ConfigError(
            f"a file of scores is for one input file, but the audit has {len(names)}. Pass a function instead."
        )
    ids, weights, places, num_lines = [], [], [], 0
    for number, (where, item) in enumerate(read_values(path)):
        num_lines += 1
        try:
            identity, weight = str(item["document_id"]), float(item["score"])
        except (ValueError, KeyError, TypeError):
            reject(Rejected(number, 'expected {"document_id": ..., "score": number}, one per line', where))
            continue
        if not (math.isfinite(weight) and weight >= 0):
            reject(Rejected(number, f"a score must be finite and >= 0, got {weight} for {identity!r}", where))
            continue
        ids.append(identity)
        weights.append(weight)
        places.append(where)
    _check_scored(audit_dir, path, ids, num_lines)
    first = _first_of_id(ids, places.__getitem__, reject)
    return {names[0]: ([ids[number] for number in first], np.array(weights, np.float64)[first])}


def _check_scored(audit_dir: Path, path: Path, ids: Sequence[str], num_lines: int) -> None:
    """Refuse the scores at `path` of other documents than the audited ones; each rejected line may be of any.

    With a prior the audit knows all ids, without one those of its sample and the number of documents.
    """
    files, column = files_below(audit_dir / "scores" / "input", ".parquet"), "document_id"
    if not (has_all_ids := bool(files)):
        files, column = files_below(audit_dir / "sample" / "input", ".parquet"), "id"
    check_recorded(audit_dir, files)
    scored = set(ids)
    audited = {str(name) for file in files for name in pq.ParquetFile(file).read([column])[column].to_pylist()}
    documents = len(audited) if has_all_ids else _count_audited(audit_dir)
    unknown = scored - audited if has_all_ids else set()
    missing = audited - scored if len(audited - scored) > num_lines - len(ids) else set()
    # Of equal ids the audit counts every document, and a file of scores has one.
    if unknown or missing or not (has_all_ids or num_lines <= documents):
        fault = f"{min(unknown)!r} was not audited" if unknown else f"{min(missing)!r} has no score" if missing else ""
        raise InputError(
            f"{path} has {num_lines:,} scores, and {audit_dir} audited {documents:,} documents{fault and ': '}{fault}. "
            "Give one score for each of them."
        )


def _count_audited(audit_dir: Path) -> int:
    """The number of documents of the input that could be read."""
    folder, destination = audit_dir / "manifests", open_destination(audit_dir)
    keys = [
        file.relative_to(folder).as_posix().removesuffix(".json") for file in files_below(folder / "input", ".json")
    ]
    counts = sum_counts([manifest for key in keys if (manifest := read_manifest(key, destination))])
    return int(counts["documents"] - counts["rejected"])


TextsOfFiles = Iterator[tuple[str, Mapping[str, str]]]
"""The name of each input file, and its texts by document id."""


def _audited_files(audit_dir: Path) -> list[str]:
    folder = audit_dir / "manifests" / "input"
    keys = [file.relative_to(folder).as_posix().removesuffix(".json") for file in files_below(folder, ".json")]
    return sorted({file_of_key(key) for key in keys})


def _check_audited(audit_dir: Path, shards: Sequence[Shard]) -> None:
    """Refuse files that are not those of the audit; of those audited in row groups only names are compared."""
    names, audited = {shard.name for shard in shards}, set(_audited_files(audit_dir))
    if names != audited:
        only = sorted(names - audited) or sorted(audited - names)
        where = "was not audited" if names - audited else "was audited and is not in it"
        raise InputError(
            f"--input is not what {audit_dir} audited: {only[0]} {where}. Give the same files, or audit these."
        )
    destination = open_destination(audit_dir)
    for shard in shards:
        if manifest := read_manifest(f"input/{shard.name}", destination):
            try:
                check_unchanged(shard, manifest)
            except FingerprintError:
                raise InputError(f"{shard.name} is no longer what {audit_dir} audited. Audit it again.") from None


def _texts(
    audit_dir: Path, config: AuditConfig, inputs: str | Path | Sequence[str | Path], reject: Reject
) -> TextsOfFiles:
    shards = find_shards(inputs, config.layout)
    _check_audited(audit_dir, shards)
    for shard in shards:
        texts: dict[str, str] = {}
        for item in read_shard(shard, config.layout):
            if isinstance(item, Rejected):
                reject(item)
            elif item.id in texts:
                reject(Rejected(item.row, f"the id {item.id!r} occurs twice", item.where))
            else:
                texts[item.id] = "\n".join(item.texts.values())
        yield shard.name, texts
