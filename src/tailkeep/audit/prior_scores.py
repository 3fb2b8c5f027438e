"""Log-probabilities of documents under a prior: one forward pass, in the same batches as `tailkeep edit`.

    scores/<key>.parquet   document_id, row, tokens, log_prob (nats, their sum), over_0.9, over_0.99

Rule: creating a `PriorScorer` imports torch. Importing this module does not.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig, validate_prior
from tailkeep.data.counters import Counts, ShardDocument
from tailkeep.errors import InputError
from tailkeep.optional import require

BINS = 20
"""Bins of the histogram of token probabilities."""

SURPRISE_BINS, SURPRISE_STEP = 160, 0.1
"""Bins and bin width (nats/token) of the histogram of documents by mean -ln p."""

MICRO = 1_000_000
CONFIDENCE_THRESHOLDS = (0.9, 0.99)
"""The two thresholds of TCE (arXiv 2509.08972). The second is also that of ToEdit (arXiv 2412.14689)."""

_LOG_THRESHOLDS = np.log(np.array(CONFIDENCE_THRESHOLDS)).astype(np.float32)
# The grouping of `tailkeep edit`: enough documents for batches with little padding, few enough for any memory.
_GROUP_CHARACTERS, _GROUP_DOCUMENTS = 1 << 20, 1 << 14
_SCHEMA = pa.schema(
    [
        ("document_id", pa.string()),
        ("row", pa.int64()),
        ("tokens", pa.int64()),
        ("log_prob", pa.float64()),
        ("over_0.9", pa.int64()),
        ("over_0.99", pa.int64()),
    ]
)


class PriorScorer:
    """A prior and its tokenizer; scores texts.

    Raises:
        MissingPackageError: torch or transformers is not installed.
        InputError: the prior does not exist or cannot be read.
        ConfigError: a key is wrong, or the device is not available.
    """

    def __init__(self, prior: Mapping[str, Any]) -> None:
        require("transformers", extra="hf")
        from tailkeep.rules import TextTokenizer, read_token_texts
        from tailkeep.scoring import CausalLMScorer
        from tailkeep.scoring.loading import load_tokenizer

        config = validate_prior(prior)
        self._scorer = CausalLMScorer(config)
        loaded = load_tokenizer(self._scorer.folder, trust_remote_code=config.trust_remote_code)
        self._tokenizer = TextTokenizer(loaded)
        self._token_texts = read_token_texts(loaded)

    def identity(self) -> dict[str, Any]:
        """Everything that can change a score, as plain values for a fingerprint."""
        return {"prior": self._scorer.identity(), "tokenizer": self._token_texts.fingerprint}

    def log_probs(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """ln p of the tokens of each text, without the first token, which has no probability."""
        rows = [tokens.ids.astype(np.int32, copy=False) for tokens in self._tokenizer(texts)]
        for scored in self._scorer.score(rows):
            log_probs = scored.log_probs[1:]
            if np.isnan(log_probs).any():
                raise InputError(
                    "the prior's probability of a token is not a number. Set prior.dtype=float32 or use another prior."
                )
            yield log_probs


class ScoreWriter:
    """Scores documents of one or more files together, and writes the scores of each file to its own of `paths`."""

    def __init__(self, scorer: PriorScorer, paths: Sequence[Path]) -> None:
        self._scorer = scorer
        self._writers = [pq.ParquetWriter(path, _SCHEMA, compression="zstd") for path in paths]
        self._pending: list[ShardDocument] = []
        self._characters = 0
        self._probabilities = np.zeros(BINS, np.int64)
        self._surprise = np.zeros(SURPRISE_BINS, np.int64)
        self._totals = np.zeros(4, np.int64)

    def add(self, document: ShardDocument) -> None:
        """Add one document."""
        self._pending.append(document)
        self._characters += len(document.text)
        if self._characters >= _GROUP_CHARACTERS or len(self._pending) >= _GROUP_DOCUMENTS:
            self._score_pending()

    def counts(self) -> Counts:
        """The counts over all documents. Call it once, at the end."""
        self._score_pending()
        names = ("prior/tokens", "prior/micronats", "prior/over_0.9", "prior/over_0.99")
        totals = dict(zip(names, self._totals[:, None], strict=True))
        return {**totals, "prior/probabilities": self._probabilities, "prior/surprise": self._surprise}

    def _score_pending(self) -> None:
        rows: dict[int, list[tuple[str, int, int, float, int, int]]] = {}
        scored = self._scorer.log_probs([document.text for document in self._pending])
        for document, log_probs in zip(self._pending, scored, strict=True):
            total = float(log_probs.sum(dtype=np.float64))
            over = count_confident(log_probs)
            self._probabilities += probability_histogram(log_probs)
            # Sums of integers do not depend on the order.
            self._totals += [len(log_probs), round(-total * MICRO), *over]
            if len(log_probs):
                bin_ = int(-total / len(log_probs) / SURPRISE_STEP)
                self._surprise[min(bin_, SURPRISE_BINS - 1)] += 1
            row = (document.id, document.row, len(log_probs), total, *over)
            rows.setdefault(document.file_number, []).append(row)
        for file_number, of_file in rows.items():
            columns = zip(zip(*of_file, strict=True), _SCHEMA, strict=True)
            table = pa.table([pa.array(column, field.type) for column, field in columns], schema=_SCHEMA)
            self._writers[file_number].write_table(table)
        self._pending, self._characters = [], 0

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers:
            writer.close()


def statistics_of(log_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean -ln p (nats/token) and the shares of tokens over both thresholds (3,) of one document."""
    tokens = max(len(log_probs), 1)
    return np.array([-float(log_probs.sum(dtype=np.float64)), *count_confident(log_probs)], np.float64) / tokens


def read_statistics(path: Path, rows: Collection[int]) -> dict[int, NDArray[np.float64]]:
    """`statistics_of` the documents `rows` by row, from what `ScoreWriter` wrote."""
    table = pq.read_table(path, filters=pc.field("row").isin(list(rows)))
    tokens = np.maximum(table["tokens"].to_numpy(), 1)
    names = ("log_prob", "over_0.9", "over_0.99")
    values = np.stack([table[name].to_numpy() / tokens for name in names], axis=1) * (-1, 1, 1)
    return dict(zip(table["row"].to_pylist(), values, strict=True))


def count_confident(log_probs: NDArray[np.float32]) -> tuple[int, int]:
    """The number of tokens with p >= each threshold, compared as edits and truncated losses do."""
    over = [int((log_probs >= log).sum()) for log in _LOG_THRESHOLDS]
    return over[0], over[1]


def probability_histogram(log_probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """The number of tokens per probability bin (BINS,)."""
    bins = np.minimum((np.exp(log_probs.astype(np.float64)) * BINS).astype(np.int64), BINS - 1)
    return np.bincount(bins, minlength=BINS)


def load_prior_scorer(config: AuditConfig) -> PriorScorer | None:
    """Load the prior of `config`; None if it has none."""
    return None if config.prior is None else PriorScorer(config.prior)
