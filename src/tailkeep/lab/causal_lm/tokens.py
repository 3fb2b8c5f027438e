"""Documents as token ids: the data of a language model's recursion, and the rows it trains on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Record
from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.codec import Codec, Ids
from tailkeep.lab.causal_lm.edits import Edits
from tailkeep.lab.causal_lm.selection import Selection
from tailkeep.lab.protocols import Indices

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
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
    codec: Codec
    edits: Edits | None = None
    selection: Selection | None = None

    @classmethod
    def of(cls, documents: Sequence[Ids], codec: Codec, *, prompts: Sequence[int] | None = None) -> Self:
        """These documents, of which the first `prompts` tokens were given."""
        ids = np.concatenate([*documents, np.zeros(0, np.int32)]).astype(np.int32)
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        given = np.zeros(len(documents), np.int64) if prompts is None else np.array(prompts, dtype=np.int64)
        return cls(ids, lengths, given, codec)

    @classmethod
    def of_records(cls, records: Sequence[Record], codec: Codec) -> Self:
        """The documents as tokens, of which those of a record's prompt are given."""
        documents = [codec.encode(record.whole) for record in records]
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
        return type(self)(ids, lengths, prompts, self.codec, Edits.read(folder), Selection.read(folder))


def training_rows(data: Tokens, *, block: int, joined: bool) -> list[Ids]:
    """The rows to train on: up to `block` predictions each, so up to `block` + 1 tokens.

    Neighbouring rows share one token, so every token but a text's first is predicted exactly once. Rows never cross
    from one document into the next, unless the documents are `joined` into one text, as ForTIFAI's windows do.

    A machine-written text may be shorter than a block, since models collapse; what a user gives is held to
    `refuse_short`.
    """
    texts = [data.ids] if joined else data.documents
    return [text[i : i + block + 1] for text in texts for i in range(0, len(text) - 1, block)]


def first_targets(data: Tokens, *, block: int) -> list[int]:
    """Of each of `training_rows(data, block=block, joined=False)`, where it leaves its document's prompt, at least 1.

    A row that lies in the prompt has its own length: nothing in it is a target.
    """
    return [
        min(max(1, int(given) - i), len(document[i : i + block + 1]))
        for document, given in zip(data.documents, data.prompts, strict=True)
        for i in range(0, len(document) - 1, block)
    ]


def refuse_short(data: Tokens, *, block: int, joined: bool, what: str) -> None:
    """Refuse a text that is shorter than one block, or leaves nothing to predict.

    Raises:
        InputError: it does; `what` names it.
    """
    if data.units < block + 1 or not training_rows(data, block=block, joined=joined):
        raise InputError(
            f"the {what} text has {data.units} tokens in {len(data)} document(s), which is shorter than one block "
            f"of {block}. Give more text, or set a smaller training.block."
        )
