"""Two-way questions as rows of token ids. Rule: whoever scores questions cuts context and sentences in this one way."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.data import Question

Ids = NDArray[np.int32]


def encode_open(tokenizer: Any, text: str) -> Ids:
    """The ids of a text that goes on: the start token if the tokenizer has one, and no stop token.

    A text that spells a special token is text.
    """
    start: int | None = tokenizer.bos_token_id
    ids = list(tokenizer(text, verbose=False, split_special_tokens=True)["input_ids"])
    if start is not None and ids[:1] != [start]:
        ids.insert(0, start)
    # Some tokenizers end every text by themselves; where start and stop are one token, a lone one is the start.
    if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return np.array(ids, dtype=np.int32)


def question_rows(question: Question, encode: Callable[[str], Ids]) -> tuple[int, Ids, Ids]:
    """The number of context tokens, and the rows context + true and context + false, without a stop token.

    The context ends where the tokens of the two rows and of the context alone first differ, so a token that
    spans the join belongs to the sentence. A stop token would be compared with a word of the longer sentence.
    `encode` gives the ids of a text that goes on, such as `encode_open` of a tokenizer.
    """
    wholes = (f"{question.context} {end}" for end in (question.sentence_true, question.sentence_false))
    context, true, false = map(encode, (question.context, *wholes))
    shared = min(len(context), len(true) - 1, len(false) - 1)
    same = (context[:shared] == true[:shared]) & (context[:shared] == false[:shared])
    length = int(shared if same.all() else same.argmin())
    return max(length, 1), true, false
