"""Text to token ids and back, with a document's boundary tokens.

Rule: ids are what is trained on, text is only for reading, and a text that spells `</s>` is text, never a boundary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tailkeep.data import TextRecord
from tailkeep.errors import ConfigError, InputError
from tailkeep.rules import TokenTexts, read_token_texts
from tailkeep.scoring import encode_without_eos, start_token_of

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class DocumentTokenizer:
    """A tokenizer, the token with which a document begins, and whether it ends with the end-of-text token.

    `start_token` is that token, or `none`, or `auto`: the one that the tokenizer itself puts before a text, if any.
    With `start_before` "block" it stands before each block of a joined text instead. With `chat_template` records are
    written as the tokenizer's template does.
    """

    hf_tokenizer: Any
    append_eos: bool
    start_token: str = "auto"
    chat_template: bool = False
    start_before: Literal["document", "block"] = "document"

    @cached_property
    def start(self) -> int | None:
        """The id with which a document begins, if it begins with one.

        Raises:
            ConfigError: `start_token` is not in the vocabulary.
        """
        if self.start_token == "auto":
            return start_token_of(self.hf_tokenizer)
        if self.start_token == "none":
            return None
        vocabulary: dict[str, int] = self.hf_tokenizer.get_vocab()
        if self.start_token not in vocabulary:
            raise ConfigError(
                f"tokenizer.start_token: {self.start_token!r} is not in the vocabulary. "
                "Give one of its tokens, auto or none."
            )
        return vocabulary[self.start_token]

    @property
    def stop(self) -> int | None:
        """The token a document ends with, if documents end with one."""
        eos: int | None = self.hf_tokenizer.eos_token_id
        return eos if self.append_eos else None

    @property
    def pad(self) -> int:
        """An id to pad batches with; it is always masked."""
        for candidate in (self.hf_tokenizer.pad_token_id, self.hf_tokenizer.eos_token_id):
            if candidate is not None:
                return int(candidate)
        return 0

    @property
    def size(self) -> int:
        """The number of ids."""
        return len(self.hf_tokenizer)

    @property
    def suppressed_ids(self) -> list[int]:
        """Special tokens that never belong into a document: all but its start and its stop."""
        return sorted(i for i in self.hf_tokenizer.all_special_ids if i not in {self.start, self.stop})

    @cached_property
    def token_texts(self) -> TokenTexts:
        """The text of each id in the middle of a text.

        Raises:
            InputError: it cannot be read from the tokenizer.
        """
        return read_token_texts(self.hf_tokenizer)

    def encode(self, text: str) -> Ids:
        """A document's ids: start token (if documents have one), text, stop token (if they end with one)."""
        start = None if self.start_before == "block" else self.start
        ids = encode_without_eos(self.hf_tokenizer, text, start=start)
        return ids if self.stop is None else np.append(ids, np.int32(self.stop))

    def encode_without_eos(self, text: str) -> Ids:
        """As `encode`, without the stop token: a text that is to be continued."""
        return encode_without_eos(self.hf_tokenizer, text, start=self.start)

    @property
    def begins_blocks(self) -> bool:
        """Whether each block of a joined text begins with the start token."""
        return self.start_before == "block" and self.start is not None

    def begin_block(self, ids: Ids) -> Ids:
        """`ids`, a part of a joined text, with the start token if blocks have one."""
        if not self.begins_blocks:
            return ids
        assert self.start is not None
        return np.append(np.int32(self.start), ids)

    def encode_record(self, record: TextRecord) -> tuple[Ids, int]:
        """The ids of a record, and how many of them belong to its prompt.

        Raises:
            InputError: with `chat_template`, a record that spells one of the tokenizer's special tokens.
            ConfigError: a tokenizer without a template, or one whose record does not begin with its prompt.
        """
        if self.chat_template:
            return self._encode_chat(record)
        ids = self.encode(record.full_text)
        return ids, self.count_prompt_tokens(record, ids)

    def _encode_chat(self, record: TextRecord) -> tuple[Ids, int]:
        for token in self.hf_tokenizer.all_special_tokens:
            if token in record.prompt or token in record.text:
                place = "" if record.line is None else f", line {record.line + 1}"
                raise InputError(
                    f"data.path{place}: a record spells the special token {token!r}, which would end or begin a turn. "
                    "Remove it from the record."
                )
        turns = [{"role": "user", "content": record.prompt}, {"role": "assistant", "content": record.text}]
        try:
            prompt = self.hf_tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
            whole = self.hf_tokenizer.apply_chat_template(turns, tokenize=False)
        # A template is a program of its authors, and raises whatever it likes.
        except Exception as error:  # noqa: BLE001
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"tokenizer.chat_template: {reason[:200]}. Use a tokenizer with a chat template."
            ) from None
        if not whole.startswith(prompt):
            raise ConfigError(
                "tokenizer.chat_template: this template writes a prompt otherwise when an answer follows, so what is "
                "to be learnt cannot be told from what is given. Set tokenizer.chat_template: false."
            )
        ids, before = (
            np.array(self.hf_tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)
            for text in (whole, prompt)
        )
        return ids, _num_shared(before, ids)

    def count_prompt_tokens(self, record: TextRecord, ids: Ids) -> int:
        """How many of `ids`, the tokens of `record.full_text`, belong to its prompt; 0 without a prompt.

        A token that spans the join belongs to the text.
        """
        if not record.prompt:
            return 0
        return _num_shared(self.encode_without_eos(record.full_text[: record.text_start]), ids)

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Readable text, without special tokens."""
        return str(
            self.hf_tokenizer.decode(list(map(int, ids)), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self.hf_tokenizer.save_pretrained(folder)


def _num_shared(first: Ids, second: Ids) -> int:
    """How many ids both begin with."""
    shared = min(len(first), len(second))
    same = first[:shared] == second[:shared]
    return int(shared if same.all() else same.argmin())


def train_tokenizer(documents: Sequence[str], *, vocab_size: int) -> Any:
    """A byte-level BPE tokenizer with `<s>`, `</s>` and `<pad>`, at most `vocab_size` ids in all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
