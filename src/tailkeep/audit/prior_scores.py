"""How sure a prior is of documents: one forward pass, in the batches in which an edit would read them.

    scores/<key>.parquet   document_id, row, tokens, log_prob (nats, their sum), over_0.9, over_0.99

Rule: torch is loaded by whoever makes an `PriorScorer`, never by importing this.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailkeep.audit.config import AuditConfig, validate_prior
from tailkeep.data.counters import Counts, ShardDocument
from tailkeep.errors import InputError
from tailkeep.optional import require

BINS = 20
"""Of the histogram of token probabilities."""

SURPRISE_BINS, SURPRISE_STEP = 160, 0.1
"""Of the histogram of documents by mean -ln p, in nats."""

MICRO = 1_000_000
SURE = (0.9, 0.99)
"""Thresholds of confidence: TCE's two (arXiv 2509.08972); the second is ToEdit's (arXiv 2412.14689) as well."""

_LOGS = np.log(np.array(SURE)).astype(np.float32)
# As an edit groups documents: enough for batches without much padding, few enough for any memory.
_CHARACTERS, _DOCUMENTS = 1 << 20, 1 << 14
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
    """A prior with its tokenizer, as functions of texts.

    Raises:
        MissingPackageError: torch or transformers is not installed.
        InputError: the prior cannot be found or read.
        ConfigError: its keys are wrong, or a device that is not there.
    """

    def __init__(self, prior: Mapping[str, Any]) -> None:
        require("transformers", extra="hf")
        from tailkeep.rules import TextTokenizer, read_token_texts
        from tailkeep.scoring import CausalLMScorer
        from tailkeep.scoring.loading import load_tokenizer

        chosen = validate_prior(prior)
        self._scorer = CausalLMScorer(chosen)
        loaded = load_tokenizer(self._scorer.folder, trust_remote_code=chosen.trust_remote_code)
        self._tokenizer = TextTokenizer(loaded)
        self._surfaces = read_token_texts(loaded)

    def identity(self) -> dict[str, Any]:
        """What can change a score, as plain values for a fingerprint."""
        return {"prior": self._scorer.identity(), "tokenizer": self._surfaces.fingerprint}

    def log_probs(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """ln p of the tokens of each text, those without a probability left out."""
        rows = [tokens.ids.astype(np.int32, copy=False) for tokens in self._tokenizer(texts)]
        for scored in self._scorer.score(rows):
            found = scored.log_probs[1:]
            if np.isnan(found).any():
                raise InputError(
                    "the prior's probability of a token is not a number. Set prior.dtype=float32, "
                    "or give another prior."
                )
            yield found


class ScoreWriter:
    """Asks for all documents of a shard and writes their scores to `path`."""

    def __init__(self, scorer: PriorScorer, path: Path) -> None:
        self._prior_scorer = scorer
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._waiting: list[ShardDocument] = []
        self._characters = 0
        self._probabilities = np.zeros(BINS, np.int64)
        self._surprise = np.zeros(SURPRISE_BINS, np.int64)
        self._totals = np.zeros(4, np.int64)

    def add(self, document: ShardDocument) -> None:
        """Take one document."""
        self._waiting.append(document)
        self._characters += len(document.text)
        if self._characters >= _CHARACTERS or len(self._waiting) >= _DOCUMENTS:
            self._ask()

    def counts(self) -> Counts:
        """What all documents say; call it once, at the end."""
        self._ask()
        names = ("prior/tokens", "prior/micronats", "prior/over_0.9", "prior/over_0.99")
        found = dict(zip(names, self._totals[:, None], strict=True))
        return {**found, "prior/probabilities": self._probabilities, "prior/surprise": self._surprise}

    def _ask(self) -> None:
        rows: list[tuple[str, int, int, float, int, int]] = []
        for document, found in zip(
            self._waiting, self._prior_scorer.log_probs([item.text for item in self._waiting]), strict=True
        ):
            total = float(found.sum(dtype=np.float64))
            over = confident_tokens(found)
            self._probabilities += probability_histogram(found)
            # Whole numbers add up to the same in any order.
            self._totals += [len(found), round(-total * MICRO), *over]
            if len(found):
                place = int(-total / len(found) / SURPRISE_STEP)
                self._surprise[min(place, SURPRISE_BINS - 1)] += 1
            rows.append((document.id, document.row, len(found), total, *over))
        if rows:
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA, strict=True)
            ]
            self._writer.write_table(pa.table(columns, schema=_SCHEMA))
        self._waiting, self._characters = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def confident_tokens(log_probs: NDArray[np.float32]) -> tuple[int, int]:
    """How many tokens have at least each probability of `SURE`, as an edit and a truncated loss compare them."""
    over = [int((log_probs >= log).sum()) for log in _LOGS]
    return over[0], over[1]


def probability_histogram(log_probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Tokens by probability in `BINS` equal bins (BINS,)."""
    places = np.minimum((np.exp(log_probs.astype(np.float64)) * BINS).astype(np.int64), BINS - 1)
    return np.bincount(places, minlength=BINS)


def load_prior_scorer(config: AuditConfig) -> PriorScorer | None:
    """The prior that `config` names, loaded; None if it names none."""
    return None if config.prior is None else PriorScorer(config.prior)
