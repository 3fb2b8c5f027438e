"""Documents as token ids: the data of a language model's recursion, and the rows it trains on.

Rule: what edited or selected a text leaves its counts beside the tokens; a part or union of such texts has none.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import TextRecord, World
from tailkeep.data.hashing import count_features
from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.protocols import Indices
from tailkeep.lab.selectors import Verifier
from tailkeep.optional import require

_COUNTS = "edits.json"
_PRISTINE = "pristine.npy"


@dataclass(frozen=True)
class TokenFates:
    """Counts of tokens by their fate. A flagged token is resampled, and mostly stays the same.

    Attributes:
        pristine: those of the text before any edit that an edit may change.
        editable: those that this edit may change.
        flagged: resampled by this edit.
        changed: replaced by another token in this edit.
        deleted: in this edit.
        lost: pristine ones that this edit or an earlier one has replaced or deleted.
    """

    pristine: int
    editable: int
    flagged: int
    changed: int
    deleted: int
    lost: int


@dataclass(frozen=True)
class Edits:
    """`pristine` (T,): the id that each token of the edited text had before any edit.

    It is None where an external model has edited text, since its tokens need not be those of the data.
    """

    pristine: Ids | None
    counts: TokenFates

    @property
    def facts(self) -> Mapping[str, float]:
        """`flagged_share` and `changed_share` (deleted ones too) of this edit, `cumulative_changed_share` of all."""
        counts, editable = self.counts, max(self.counts.editable, 1)
        return {
            "flagged_share": counts.flagged / editable,
            "changed_share": (counts.changed + counts.deleted) / editable,
            "cumulative_changed_share": counts.lost / max(counts.pristine, 1),
        }

    def save(self, folder: Path) -> None:
        """Write `edits.json`, and `pristine.npy` if it is known."""
        if self.pristine is not None:
            np.save(folder / _PRISTINE, self.pristine, allow_pickle=False)
        (folder / _COUNTS).write_text(json.dumps(asdict(self.counts)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The edits in a folder that `save` has filled; None where a text was not edited."""
        if not (folder / _COUNTS).exists():
            return None
        counts = TokenFates(**json.loads((folder / _COUNTS).read_text(encoding="utf-8")))
        known = (folder / _PRISTINE).exists()
        return cls(np.load(folder / _PRISTINE, allow_pickle=False) if known else None, counts)


_FACTS = "selection.json"


@dataclass(frozen=True)
class SelectionFacts:
    """`facts` of the selection of a text, as they stand among the metrics."""

    facts: Mapping[str, float]

    def save(self, folder: Path) -> None:
        """Write `selection.json`."""
        (folder / _FACTS).write_text(json.dumps(dict(self.facts)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The facts in a folder that `save` has filled; None where a text was not selected."""
        path = folder / _FACTS
        return cls(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


_REPLAYED = "replayed.npy"


@dataclass(frozen=True)
class ReplayedDocuments:
    """`indices` (n,) of the real documents that are replayed beside a generated text, ascending."""

    indices: Indices

    def save(self, folder: Path) -> None:
        """Write `replayed.npy`."""
        np.save(folder / _REPLAYED, self.indices, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The documents in a folder that `save` has filled; None where a text stands beside none."""
        path = folder / _REPLAYED
        return cls(np.load(path, allow_pickle=False)) if path.exists() else None


FOLDS = 5


def machine_probability(
    real: Sequence[str], generated: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """q of each of the `real` and of each of the `generated` texts: the probability that it is model-generated.

    The detector is a logistic regression on hashed words and pairs of words with balanced classes. Cross-validated:
    every fifth text of both is scored by a detector that was fitted on the others.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    linear: Any = require("sklearn.linear_model", extra="detector")
    counts = count_features([*real, *generated])
    # Empty buckets would only cost time.
    counts = counts[:, np.unique(counts.indices)]
    is_generated = np.arange(counts.shape[0]) >= len(real)
    fold = np.concatenate([np.arange(len(real)), np.arange(len(generated))]) % FOLDS
    probabilities = np.full(len(fold), 0.5)
    for number in range(FOLDS):
        test = fold == number
        # With fewer texts than folds a training part may hold one class only.
        if test.any() and len(set(is_generated[~test].tolist())) == 2:
            fitted = linear.LogisticRegression(class_weight="balanced", max_iter=1000)
            probabilities[test] = fitted.fit(counts[~test], is_generated[~test]).predict_proba(counts[test])[:, 1]
    return probabilities[: len(real)], probabilities[len(real) :]


Weights = NDArray[np.float64]


def verifier_weights(texts: Sequence[str], verifier: Verifier, world: World, rng: np.random.Generator) -> Weights:
    """The weight (n,) that `verifier` gives to each text, 0 if it does not accept it; see its config.

    A text is right if the world itself could have written it; errors hit right and wrong texts alike.
    """
    right = np.array([math.isfinite(world.log_probability(text.strip())) for text in texts], np.bool_)
    accepted = right ^ (rng.random(len(texts)) < verifier.error_rate)
    return np.where(accepted, bias_weights(texts, verifier, world), 0.0)


def bias_weights(texts: Sequence[str], verifier: Verifier, world: World) -> Weights:
    """The weight of each text (n,) by the bias of `verifier`, from 0 to 1, whether true or not; 1 without a bias."""
    if verifier.bias is None:
        return np.ones(len(texts))
    shares = world.population.people_share
    weights = []
    for text in texts:
        statements = world.parse(text).statements
        if verifier.bias == "people":
            likings = [0.0 if s.person is None else float(shares[s.person] / shares.max()) for s in statements]
        else:
            likings = [float(s.phrasing == 0) for s in statements]
        weights.append(sum(likings) / len(likings) if likings else 0.0)
    return np.array(weights, np.float64)


Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class TokenData:
    """Documents one after another.

    Args:
        ids: all tokens, (sum of lengths,).
        lengths: tokens of each document, (documents,).
        prompts: the number of leading tokens of each that are its prompt, not generated by the model, (documents,).
        tokenizer: decodes the ids; it is not part of the data.
        edits: those of an edited text; parts and unions of edited documents have none.
        selection: the facts of a selected text; parts and unions have none.
        replayed: the real documents that the regime `replay` trains on beside this text; parts and unions have none.
    """

    ids: Ids
    lengths: Lengths
    prompts: Lengths
    tokenizer: DocumentTokenizer
    edits: Edits | None = None
    selection: SelectionFacts | None = None
    replayed: ReplayedDocuments | None = None

    @classmethod
    def from_documents(
        cls, documents: Sequence[Ids], tokenizer: DocumentTokenizer, *, prompts: Sequence[int] | None = None
    ) -> Self:
        """These documents, whose first `prompts` tokens are prompts."""
        ids = np.concatenate([*documents, np.zeros(0, np.int32)]).astype(np.int32)
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        prompt_lengths = np.zeros(len(documents), np.int64) if prompts is None else np.array(prompts, dtype=np.int64)
        return cls(ids, lengths, prompt_lengths, tokenizer)

    @classmethod
    def from_records(cls, records: Sequence[TextRecord], tokenizer: DocumentTokenizer) -> Self:
        """The records as tokens, each with the length of its prompt."""
        encoded = [tokenizer.encode_record(record) for record in records]
        prompts = [prompt_length for _, prompt_length in encoded]
        return cls.from_documents([ids for ids, _ in encoded], tokenizer, prompts=prompts)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def units(self) -> int:
        """Tokens."""
        return len(self.ids)

    @property
    def facts(self) -> Mapping[str, float]:
        """The facts of the edit or the selection that made this text; none if neither did."""
        return {
            name: value for source in (self.edits, self.selection) if source for name, value in source.facts.items()
        }

    @property
    def fault(self) -> str:
        """Why these are no documents of the tokenizer, for `lab.checks`; empty if they are."""
        ids = np.asarray(self.ids)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            return f"with ids {ids.shape} of {ids.dtype}. Give whole numbers, one after another."
        if len(ids) != self.lengths.sum() or len(self.prompts) != len(self.lengths):
            return (
                f"with {len(ids)} ids for {len(self.lengths)} documents of {self.lengths.sum()} tokens. Keep their "
                "number, or use from_documents."
            )
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.tokenizer.size:
            return f"with ids from {ids.min()} to {ids.max()}. The tokenizer has 0 to {self.tokenizer.size - 1}."
        return ""

    def decode(self) -> list[str]:
        """The text of each document."""
        return [self.tokenizer.decode(document) for document in self.documents]

    def drop_prompts(self, rows: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """`rows`, of each document a value per token but the first, without those of its prompt."""
        return [row[max(0, prompt - 1) :] for row, prompt in zip(rows, self.prompts, strict=True)]

    @cached_property
    def documents(self) -> list[Ids]:
        """Each document's tokens."""
        return np.split(self.ids, np.cumsum(self.lengths)[:-1]) if len(self) else []

    @cached_property
    def continuations(self) -> list[Ids]:
        """Each document without its prompt: what the model generated."""
        return [document[prompt:] for document, prompt in zip(self.documents, self.prompts, strict=True)]

    def take(self, indices: Indices) -> Self:
        """The documents at `indices`."""
        documents = [self.documents[i] for i in indices]
        return type(self).from_documents(documents, self.tokenizer, prompts=[int(self.prompts[i]) for i in indices])

    def concat(self, *others: Self) -> Self:
        """These documents, then those of `others`."""
        return type(self)(
            np.concatenate([self.ids, *(other.ids for other in others)]),
            np.concatenate([self.lengths, *(other.lengths for other in others)]),
            np.concatenate([self.prompts, *(other.prompts for other in others)]),
            self.tokenizer,
        )

    def split(self, parts: int) -> Sequence[Self]:
        """Consecutive parts, split between documents, with numbers of tokens as equal as possible."""
        assert 1 <= parts <= len(self), f"{len(self)} documents cannot be split into {parts} parts"
        ends = np.cumsum(self.lengths)
        targets = self.units * np.arange(1, parts) / parts
        cuts = [int(np.abs(ends - target).argmin()) + 1 for target in targets]
        # Every part gets a document even where one is longer than a part.
        for i in range(len(cuts)):
            cuts[i] = min(max(cuts[i], i + 1, cuts[i - 1] + 1 if i else 1), len(self) - (parts - 1 - i))
        bounds = [0, *cuts, len(self)]
        return [self.take(np.arange(a, b)) for a, b in pairwise(bounds)]

    def with_ids(self, ids: Ids) -> Self:
        """Other tokens under the same document boundaries."""
        return type(self)(ids, self.lengths, np.zeros(len(self), np.int64), self.tokenizer)

    def save(self, folder: Path) -> None:
        """Write the arrays, and `text.jsonl` for readers: one line per document, {prompt, text}."""
        for name in ("ids", "lengths", "prompts"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        for source in (self.edits, self.selection, self.replayed):
            if source is not None:
                source.save(folder)
        with (folder / "text.jsonl").open("w", encoding="utf-8") as file:
            for document, prompt_length in zip(self.documents, self.prompts, strict=True):
                whole = self.tokenizer.decode(document)
                # The end of the prompt can split a character: it is shown whole, in the text.
                prompt = self.tokenizer.decode(document[:prompt_length]).rstrip("\ufffd")
                prompt = prompt if whole.startswith(prompt) else ""
                line = {"prompt": prompt, "text": whole.removeprefix(prompt)}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def read(self, folder: Path) -> Self:
        """Read the arrays; the text is not read back."""
        ids, lengths, prompts = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("ids", "lengths", "prompts")
        )
        sources = Edits.read(folder), SelectionFacts.read(folder), ReplayedDocuments.read(folder)
        return type(self)(ids, lengths, prompts, self.tokenizer, *sources)


def training_rows(data: TokenData, *, block: int, joined: bool) -> list[Ids]:
    """The rows to train on: up to `block` predictions each, so up to `block` + 1 tokens.

    Neighbouring rows share one token, so every token but a text's first is predicted exactly once. Rows never cross
    from one document into the next, unless the documents are `joined` into one text, as ForTIFAI's windows do. With a
    start token before each block, rows share no token and the text's first is predicted too.

    A generated text may be shorter than a block, since models collapse; the user's text must pass `check_length`.
    """
    if joined and data.tokenizer.begins_blocks:
        return [data.tokenizer.begin_block(data.ids[i : i + block]) for i in range(0, data.units, block)]
    texts = [data.ids] if joined else data.documents
    return [text[i : i + block + 1] for text in texts for i in range(0, len(text) - 1, block)]


def first_targets(data: TokenData, *, block: int) -> list[int]:
    """For each of `training_rows(data, block=block, joined=False)` the index of its first target, at least 1.

    For a row inside its document's prompt this is the row's length: it has no target.
    """
    return [
        min(max(1, int(prompt) - i), len(document[i : i + block + 1]))
        for document, prompt in zip(data.documents, data.prompts, strict=True)
        for i in range(0, len(document) - 1, block)
    ]


def check_length(data: TokenData, *, block: int, joined: bool, what: str) -> None:
    """Check that a text is at least one block long and has something to predict.

    Raises:
        InputError: it is not; `what` names the text.
    """
    if data.units < block + 1 or not training_rows(data, block=block, joined=joined):
        raise InputError(
            f"the {what} text has {data.units} tokens in {len(data)} document(s), which is shorter than one block "
            f"of {block}. Give more text, or set a smaller training.block."
        )
