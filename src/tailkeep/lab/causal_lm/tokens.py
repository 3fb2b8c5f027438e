"""Documents as token ids: the data of a language model's recursion, and the rows it trains on."""

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

# What an edit leaves beside a text's tokens: what they were before any edit, and counts.
#
# Rule: flagged and changed are counted apart, since what is flagged is drawn anew and mostly stays what it is.


_COUNTS = "edits.json"
_PRISTINE = "pristine.npy"


@dataclass(frozen=True)
class TokenFates:
    """Tokens by what became of them.

    Attributes:
        pristine: those of the text before any edit that an edit may touch.
        judged: those of them that this edit found.
        flagged: drawn anew by this edit.
        changed: became others by this edit.
        deleted: by this edit.
        lost: of the pristine ones, those that are others or gone by now, by this edit and those before it.
    """

    pristine: int
    judged: int
    flagged: int
    changed: int
    deleted: int
    lost: int


@dataclass(frozen=True)
class Edits:
    """`pristine` (T,): the id that each token of the edited text had before any edit.

    It is None where an outside model has edited text, since its tokens need not be those of the data.
    """

    pristine: Ids | None
    counts: TokenFates

    @property
    def facts(self) -> Mapping[str, float]:
        """`flagged_share` and `changed_share` (deleted ones too) of this edit, `cumulative_changed_share` of all."""
        counts, judged = self.counts, max(self.counts.judged, 1)
        return {
            "flagged_share": counts.flagged / judged,
            "changed_share": (counts.changed + counts.deleted) / judged,
            "cumulative_changed_share": counts.lost / max(counts.pristine, 1),
        }

    def save(self, folder: Path) -> None:
        """Write `edits.json`, and `pristine.npy` if it is known."""
        if self.pristine is not None:
            np.save(folder / _PRISTINE, self.pristine, allow_pickle=False)
        (folder / _COUNTS).write_text(json.dumps(asdict(self.counts)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What `save` has written; None where a text was not edited."""
        if not (folder / _COUNTS).exists():
            return None
        counts = TokenFates(**json.loads((folder / _COUNTS).read_text(encoding="utf-8")))
        known = (folder / _PRISTINE).exists()
        return cls(np.load(folder / _PRISTINE, allow_pickle=False) if known else None, counts)


# What a selection leaves beside the tokens that it has chosen: its facts.


_FACTS = "selection.json"


@dataclass(frozen=True)
class SelectionFacts:
    """`facts` of the selection that chose a text, as they stand among the metrics."""

    facts: Mapping[str, float]

    def save(self, folder: Path) -> None:
        """Write `selection.json`."""
        (folder / _FACTS).write_text(json.dumps(dict(self.facts)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What `save` has written; None where a text was not selected."""
        path = folder / _FACTS
        return cls(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


# A detector of machine text: a logistic regression on hashed words and pairs of words.
#
# Rule: a text is judged by a detector that was fitted on others.


FOLDS = 5


def machine_probability(real: Sequence[str], written: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """q of each of the `real` texts and of each of the `written` ones: the chance that it is machine-written.

    Every fifth text of both is judged by a detector fitted on the others, to which both kinds are equally likely.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    linear: Any = require("sklearn.linear_model", extra="detector")
    counts = count_features([*real, *written])
    # A bucket that is nowhere filled would only cost time.
    counts = counts[:, np.unique(counts.indices)]
    is_written = np.arange(counts.shape[0]) >= len(real)
    fold = np.concatenate([np.arange(len(real)), np.arange(len(written))]) % FOLDS
    found = np.full(len(fold), 0.5)
    for number in range(FOLDS):
        asked = fold == number
        # Fewer texts than folds may leave one kind alone, of which nothing can be learnt.
        if asked.any() and len(set(is_written[~asked].tolist())) == 2:
            fitted = linear.LogisticRegression(class_weight="balanced", max_iter=1000)
            found[asked] = fitted.fit(counts[~asked], is_written[~asked]).predict_proba(counts[asked])[:, 1]
    return found[: len(real)], found[len(real) :]


# A verifier of documents about the embedded world, with the errors and the biases that it is given.
#
# Rule: right is what the world itself could have written; errors fall on right and on wrong documents alike.


Weights = NDArray[np.float64]


def verdicts(texts: Sequence[str], verifier: Verifier, world: World, rng: np.random.Generator) -> Weights:
    """The weight (n,) that `verifier` gives to each text, 0 if it does not accept it; see its settings."""
    right = np.array([math.isfinite(world.log_probability(text.strip())) for text in texts], np.bool_)
    accepted = right ^ (rng.random(len(texts)) < verifier.error_rate)
    return np.where(accepted, liking(texts, verifier, world), 0.0)


def liking(texts: Sequence[str], verifier: Verifier, world: World) -> Weights:
    """How much `verifier` likes each text (n,), from 0 to 1, whatever is true; 1 without a bias."""
    if verifier.bias is None:
        return np.ones(len(texts))
    shares = world.population.people_share
    liked = []
    for text in texts:
        statements = world.parse(text).statements
        if verifier.bias == "people":
            found = [0.0 if s.person is None else float(shares[s.person] / shares.max()) for s in statements]
        else:
            found = [float(s.phrasing == 0) for s in statements]
        liked.append(sum(found) / len(found) if found else 0.0)
    return np.array(liked, np.float64)


Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class TokenData:
    """Documents one after another.

    Args:
        ids: all tokens, (sum of lengths,).
        lengths: tokens of each document, (documents,).
        prompts: how many leading tokens of each were given to the model, not written by it, (documents,).
        codec: reads the ids as text; it is not part of the data.
        edits: what an edit has left beside the tokens; parts and unions of edited documents have none.
        selection: what a selection has left beside them; parts and unions have none.
    """

    ids: Ids
    lengths: Lengths
    prompts: Lengths
    codec: DocumentTokenizer
    edits: Edits | None = None
    selection: SelectionFacts | None = None

    @classmethod
    def of(cls, documents: Sequence[Ids], codec: DocumentTokenizer, *, prompts: Sequence[int] | None = None) -> Self:
        """These documents, of which the first `prompts` tokens were given."""
        ids = np.concatenate([*documents, np.zeros(0, np.int32)]).astype(np.int32)
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        given = np.zeros(len(documents), np.int64) if prompts is None else np.array(prompts, dtype=np.int64)
        return cls(ids, lengths, given, codec)

    @classmethod
    def of_records(cls, records: Sequence[TextRecord], codec: DocumentTokenizer) -> Self:
        """The documents as tokens, of which those of a record's prompt are given."""
        documents = [codec.encode(record.full_text) for record in records]
        prompts = [codec.given(record, document) for record, document in zip(records, documents, strict=True)]
        return cls.of(documents, codec, prompts=prompts)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def units(self) -> int:
        """Tokens."""
        return len(self.ids)

    @property
    def facts(self) -> Mapping[str, float]:
        """What the edit or the selection tells that made this text; nothing if none did."""
        return {name: value for made in (self.edits, self.selection) if made for name, value in made.facts.items()}

    @cached_property
    def documents(self) -> list[Ids]:
        """Each document's tokens."""
        return np.split(self.ids, np.cumsum(self.lengths)[:-1]) if len(self) else []

    @cached_property
    def continuations(self) -> list[Ids]:
        """Each document without its prompt: what the model wrote."""
        return [document[given:] for document, given in zip(self.documents, self.prompts, strict=True)]

    def take(self, indices: Indices) -> Self:
        """The documents at `indices`."""
        chosen = [self.documents[i] for i in indices]
        return type(self).of(chosen, self.codec, prompts=[int(self.prompts[i]) for i in indices])

    def concat(self, *others: Self) -> Self:
        """These documents, then those of `others`."""
        return type(self)(
            np.concatenate([self.ids, *(other.ids for other in others)]),
            np.concatenate([self.lengths, *(other.lengths for other in others)]),
            np.concatenate([self.prompts, *(other.prompts for other in others)]),
            self.codec,
        )

    def split(self, parts: int) -> Sequence[Self]:
        """Consecutive pieces, cut between documents as near to equal numbers of tokens as they allow."""
        assert 1 <= parts <= len(self), f"{len(self)} documents cannot be cut into {parts} pieces"
        ends = np.cumsum(self.lengths)
        targets = self.units * np.arange(1, parts) / parts
        cuts = [int(np.abs(ends - target).argmin()) + 1 for target in targets]
        # Every part gets a document even where one is longer than a part.
        for i in range(len(cuts)):
            cuts[i] = min(max(cuts[i], i + 1, cuts[i - 1] + 1 if i else 1), len(self) - (parts - 1 - i))
        bounds = [0, *cuts, len(self)]
        return [self.take(np.arange(a, b)) for a, b in pairwise(bounds)]

    def like(self, ids: Ids) -> Self:
        """Other tokens under the same document boundaries."""
        return type(self)(ids, self.lengths, np.zeros(len(self), np.int64), self.codec)

    def save(self, folder: Path) -> None:
        """Write the arrays, and `text.jsonl` for people: one line a document, {prompt, text}."""
        for name in ("ids", "lengths", "prompts"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        for made in (self.edits, self.selection):
            if made is not None:
                made.save(folder)
        with (folder / "text.jsonl").open("w", encoding="utf-8") as file:
            for document, given in zip(self.documents, self.prompts, strict=True):
                whole = self.codec.decode(document)
                # A character can be cut in two by the end of the prompt: it is shown whole, in the text.
                prompt = self.codec.decode(document[:given]).rstrip("\ufffd")
                prompt = prompt if whole.startswith(prompt) else ""
                line = {"prompt": prompt, "text": whole.removeprefix(prompt)}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def read(self, folder: Path) -> Self:
        """Read the arrays; the text is not read back."""
        ids, lengths, prompts = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("ids", "lengths", "prompts")
        )
        return type(self)(ids, lengths, prompts, self.codec, Edits.read(folder), SelectionFacts.read(folder))


def training_rows(data: TokenData, *, block: int, joined: bool) -> list[Ids]:
    """The rows to train on: up to `block` predictions each, so up to `block` + 1 tokens.

    Neighbouring rows share one token, so every token but a text's first is predicted exactly once. Rows never cross
    from one document into the next, unless the documents are `joined` into one text, as ForTIFAI's windows do.

    A machine-written text may be shorter than a block, since models collapse; what a user gives is held to
    `refuse_short`.
    """
    texts = [data.ids] if joined else data.documents
    return [text[i : i + block + 1] for text in texts for i in range(0, len(text) - 1, block)]


def first_targets(data: TokenData, *, block: int) -> list[int]:
    """Of each of `training_rows(data, block=block, joined=False)`, where it leaves its document's prompt, at least 1.

    A row that lies in the prompt has its own length: nothing in it is a target.
    """
    return [
        min(max(1, int(given) - i), len(document[i : i + block + 1]))
        for document, given in zip(data.documents, data.prompts, strict=True)
        for i in range(0, len(document) - 1, block)
    ]


def refuse_short(data: TokenData, *, block: int, joined: bool, what: str) -> None:
    """Refuse a text that is shorter than one block, or leaves nothing to predict.

    Raises:
        InputError: it does; `what` names it.
    """
    if data.units < block + 1 or not training_rows(data, block=block, joined=joined):
        raise InputError(
            f"the {what} text has {data.units} tokens in {len(data)} document(s), which is shorter than one block "
            f"of {block}. Give more text, or set a smaller training.block."
        )
