"""Training documents as an outside model has edited or written them, from text to text through its own tokenizer.

Rule: what becomes of a document is a function of the model, the document, the choices and (seed, document number); a
prompt stays as it is, and what no edit has touched stays character by character.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Record
from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.codec import Codec, Ids, load_tokenizer
from tailkeep.lab.causal_lm.decoding import continue_prompts
from tailkeep.lab.causal_lm.editing import Choice, Editor
from tailkeep.lab.causal_lm.edits import Counts, Edits
from tailkeep.lab.causal_lm.outside import OutsideEdit, OutsideText
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.rules import TextTokenizer, splice
from tailkeep.rules import Tokens as Placed
from tailkeep.scoring.halves import Halves
from tailkeep.scoring.source import load_network

_PIECE = 1024
"""Tokens written at once by a model that names no number of positions."""


@dataclass(frozen=True)
class Outside:
    """An outside model with its tokenizer both ways: to ids, and to ids with their places in a text."""

    model: Halves
    codec: Codec
    places: TextTokenizer


def load_outside(folder: Path, *, device: str) -> Outside:
    """The model in `folder`.

    Raises:
        InputError: it or its tokenizer cannot be read, or they do not belong together.
    """
    codec = Codec(load_tokenizer(folder), append_eos=False)
    model = Halves(load_network(folder).to(device))
    # Refused here if the tokenizer does not tell what its tokens read as.
    known = len(codec.surfaces.texts)
    if known > model.readable:
        raise InputError(
            f"data.prior.path: the tokenizer has {known} ids, the model reads {model.readable}. "
            "Give a folder with the tokenizer that belongs to the model."
        )
    return Outside(model, codec, TextTokenizer(codec.tokenizer))


def first_text(
    outside: Outside, choice: OutsideEdit | OutsideText, records: Sequence[Record], codec: Codec
) -> Callable[[int], Tokens]:
    """A function of a seed: the tokens, in the trained model's `codec`, of what `outside` makes of `records`."""

    def first(seed: int) -> Tokens:
        if isinstance(choice, OutsideText):
            return Tokens.of_records(written(outside, records, choice, seed=seed), codec)
        found, counts = edited(outside, records, choice, seed=seed)
        return replace(Tokens.of_records(found, codec), edits=Edits(None, counts))

    return first


def edited(outside: Outside, records: Sequence[Record], edit: OutsideEdit, *, seed: int) -> tuple[list[Record], Counts]:
    """`records` with the tokens of their texts that the rule flags drawn anew, and what became of the tokens.

    A change that cannot be put into the text at the place of its token is refused, as in `tailkeep edit`, and is not
    counted as one.
    """
    wholes = outside.places([record.whole for record in records])
    data = Tokens.of([whole.ids.astype(np.int32) for whole in wholes], outside.codec)
    inside = [_inside(record, whole) for record, whole in zip(records, wholes, strict=True)]
    choice = Choice(edit.rule, edit.sampler, seed, edit.at_random)
    editor = Editor(data, outside.model, choice, within=np.concatenate(inside))
    scored = editor.scored()
    found, changed, deleted = [], 0, 0
    for record, whole, changes in zip(records, wholes, editor.changes(scored), strict=True):
        protected = [(0, record.start)] if record.start else []
        spliced = splice(record.whole, whole, changes, outside.codec.surfaces, protected=protected)
        found.append(replace(record, text=spliced.text[record.start :]))
        gone = sum(made.new_id is None for made in spliced.applied)
        deleted += gone
        changed += len(spliced.applied) - gone
    flagged = sum(len(one.positions) for one in scored)
    judged = editor.judged
    return found, Counts(
        pristine=judged, judged=judged, flagged=flagged, changed=changed, deleted=deleted, lost=changed + deleted
    )


def written(outside: Outside, records: Sequence[Record], choice: OutsideText, *, seed: int) -> list[Record]:
    """As many texts as `records`, each begun as the real one, or by its prompt, and of as many tokens; see `Piece`."""
    pieces = [piece for n, record in enumerate(records) for piece in pieces_of(outside, n, record, choice)]
    # Of one length together, so that little is written that nobody needs.
    order = sorted(range(len(pieces)), key=lambda i: (pieces[i].missing, i))
    tails: list[Ids] = [np.zeros(0, np.int32)] * len(pieces)
    for number, first in enumerate(range(0, len(order), choice.batch)):
        chosen = order[first : first + choice.batch]
        longest = max(pieces[i].missing for i in chosen)
        if not longest:
            continue
        made = continue_prompts(
            outside.model.network,
            outside.codec,
            [pieces[i].start for i in chosen],
            decoder=choice.decoder,
            new_tokens=longest,
            stops=False,
            batch=choice.batch,
            seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
        )
        for i, tail in zip(chosen, made, strict=True):
            tails[i] = tail[: pieces[i].missing]
    texts: list[list[Ids]] = [[] for _ in records]
    for piece, tail in zip(pieces, tails, strict=True):
        texts[piece.record] += [piece.kept, tail]
    return [
        replace(record, text=outside.codec.decode(np.concatenate(parts)).strip())
        for record, parts in zip(records, texts, strict=True)
    ]


@dataclass(frozen=True)
class Piece:
    """A part of a record's text: `missing` tokens are to be written behind `start`, whose end `kept` is text too."""

    record: int
    start: Ids
    kept: Ids
    missing: int


def pieces_of(outside: Outside, number: int, record: Record, choice: OutsideText) -> list[Piece]:
    """The text of `record` cut to what the model writes at once; all pieces stand behind the prompt."""
    whole = outside.codec.encode_open(record.whole)
    given = outside.codec.given(record, whole) or int(outside.codec.start is not None)
    prompt, text = whole[:given], whole[given:]
    room = outside.model.positions or _PIECE
    # Of a prompt that leaves no room the end is what counts.
    prompt = prompt[-(room // 2) :]
    size = room - len(prompt)
    found = []
    for first in range(0, len(text), size):
        part = text[first : first + size]
        # A model is never asked behind nothing.
        cut = min(len(part), max(choice.prompt_tokens, int(not len(prompt))))
        found.append(Piece(number, np.concatenate([prompt, part[:cut]]), part[:cut], len(part) - cut))
    return found


def _inside(record: Record, whole: Placed) -> NDArray[np.bool_]:
    """(T,) which tokens stand, whole, in the text of `record`."""
    starts, ends = whole.offsets.reshape(-1, 2).T
    inside: NDArray[np.bool_] = (starts >= record.start) & (ends > starts)
    return inside
