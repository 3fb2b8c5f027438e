"""Text to token ids and back, with a document's boundary tokens.

Rule: ids are what is trained on, text is only for reading, and a text that spells `</s>` is text, never a boundary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tailkeep.data import TextRecord
from tailkeep.errors import ConfigError
from tailkeep.rules import TokenTexts, read_token_texts
from tailkeep.scoring import encode_without_eos, start_token_of

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class DocumentTokenizer:
    """A tokenizer, the token with which a document begins, and whether it ends with the end-of-text token.

    `start_token` is that token, or `none`, or `auto`: the one that the tokenizer itself puts before a text, if any.
    """

    hf_tokenizer: Any
    append_eos: bool
    start_token: str = "auto"

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
        """A document's ids: start token (if there is one), text, stop token (if documents end with one)."""
        ids = self.encode_without_eos(text)
        return ids if self.stop is None else np.append(ids, np.int32(self.stop))

    def encode_without_eos(self, text: str) -> Ids:
        """As `encode`, without the stop token: a text that is to be continued."""
        return encode_without_eos(self.hf_tokenizer, text, start=self.start)

    def count_prompt_tokens(self, record: TextRecord, ids: Ids) -> int:
        """How many of `ids`, the tokens of `record.full_text`, belong to its prompt; 0 without a prompt.

        A token that spans the join belongs to the text.
        """
        if not record.prompt:
            return 0
        prompt = self.encode_without_eos(record.full_text[: record.text_start])
        shared = min(len(prompt), len(ids))
        same = ids[:shared] == prompt[:shared]
        return int(shared if same.all() else same.argmin())

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Readable text, without special tokens."""
        return str(
            self.hf_tokenizer.decode(list(map(int, ids)), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self.hf_tokenizer.save_pretrained(folder)


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
