"""Checks of documents that are token ids.

    tailkeep.tokenizer   in the metadata of parquet files: the hash of the tokenizer

Rule: ids must come from the tokenizer of the prior, since ids from another one would decode to different text without
any error. The file or the configuration must name the tokenizer.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tailkeep.data.corpus import Record, Shard, ShardIO, TextField
from tailkeep.data.corpus.io import TruncatedFileError, open_parquet
from tailkeep.edit.config import EditConfig
from tailkeep.edit.editor import EditPrior
from tailkeep.errors import ConfigError, InputError
from tailkeep.rules import Low, Rule, ToEdit, TokenTexts, read_token_texts
from tailkeep.scoring.loading import load_tokenizer

TOKENIZER = "tailkeep.tokenizer"
_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12


def check_tokenizer_of_ids(config: EditConfig, shards: Sequence[Shard], token_texts: TokenTexts) -> None:
    """Check that token ids come from the tokenizer with these `token_texts`. A corpus of text passes.

    Raises:
        InputError: a file or the layout names another tokenizer, neither names one, or a column's dtype is too narrow.
        ConfigError: a rule deletes from lists of a fixed length.
    """
    layout = config.layout
    if layout.token_field is None:
        return
    prior_hash = token_texts.fingerprint
    stated = None if layout.tokenizer is None else _hash_of(layout.tokenizer)
    if stated not in (None, prior_hash):
        raise InputError(
            f"layout.tokenizer: the ids come from the tokenizer {str(stated)[:_SHOWN]}, but the prior's is "
            f"{prior_hash[:_SHOWN]}. Use the prior whose tokenizer produced them."
        )
    for shard in {shard.url: shard for shard in shards}.values():
        file_hash, kind = _tokenizer_hash_of(shard, layout.token_field)
        _check_dtype(shard, kind, len(token_texts.texts), deletes=_deletes(config.rule))
        if file_hash not in (None, prior_hash):
            raise InputError(
                f"{shard.name} holds ids of the tokenizer {str(file_hash)[:_SHOWN]}, but the prior's is "
                f"{prior_hash[:_SHOWN]}. Use the prior whose tokenizer produced them, or edit the text."
            )
        if file_hash is None and stated is None:
            raise InputError(
                f"{shard.name} does not record which tokenizer produced its ids; ids from another tokenizer would "
                f"decode to different text. Set layout.tokenizer to its folder or hash; the prior's is {prior_hash}."
            )


def decode_records(
    records: Iterable[Record], shard_io: ShardIO, model: EditPrior, config: EditConfig
) -> Iterator[Record]:
    """The records whose ids are in the vocabulary; the others are rejected. Records of text pass.

    Raises:
        ConfigError: the rule deletes, and another list is aligned with the ids.
        InputError: an id is not in the vocabulary, and `on_error` is "stop".
    """
    vocab_size, deletes = len(model.token_texts.texts), _deletes(config.rule)
    for record in records:
        tokens = record.tokens
        if tokens is not None and deletes:
            _check_not_aligned(record, tokens)
        if tokens is not None and (fault := _find_fault(tokens, vocab_size)):
            shard_io.reject(record, fault)
            continue
        yield record


def _find_fault(tokens: TextField, vocab_size: int) -> str:
    """Why the ids cannot be used; "" if they can."""
    ids = tokens.ids or ()
    if max(ids, default=0) < vocab_size:
        return ""
    at = next(number for number, token in enumerate(ids) if token >= vocab_size)
    return (
        f"number {at} of {tokens.path!r} is {ids[at]}, but the prior's tokenizer has ids up to {vocab_size - 1}. "
        "Use the prior whose tokenizer produced them"
    )


def _check_not_aligned(record: Record, tokens: TextField) -> None:
    if tokens.aligned:
        raise ConfigError(
            f"{record.where}: the field {tokens.aligned[0]!r} is as long as {tokens.path!r}, and a rule that deletes "
            "would break their alignment. Remove rule.delete_below or action: delete, or drop the field."
        )


def _deletes(rule: Rule) -> bool:
    return (isinstance(rule, ToEdit) and rule.delete_below is not None) or (
        isinstance(rule, Low) and rule.action == "delete"
    )


def _hash_of(tokenizer: str) -> str:
    """The hash of the tokenizer in the folder `tokenizer`, or `tokenizer` itself if it is a hash."""
    if _HASH.fullmatch(tokenizer):
        return tokenizer
    if not Path(tokenizer).is_dir():
        raise InputError(
            f"layout.tokenizer: {tokenizer} is neither a folder nor a hash of 64 digits. Give the tokenizer's folder."
        )
    return read_token_texts(load_tokenizer(Path(tokenizer), key="layout.tokenizer")).fingerprint


def _tokenizer_hash_of(shard: Shard, path: str) -> tuple[str | None, pa.DataType | None]:
    """The hash in the metadata of a parquet file, and the type of the field at `path`."""
    if shard.kind != "parquet":
        return None, None
    try:
        with open_parquet(shard.url, shard.name) as file:
            schema = file.schema_arrow
    except TruncatedFileError:
        return None, None  # rejected when it is read
    kind = pa.struct(list(schema))
    for key in path.split("."):
        at = kind.get_field_index(key) if pa.types.is_struct(kind) else -1
        kind = kind.field(at).type if at >= 0 else pa.null()
    stated = (schema.metadata or {}).get(TOKENIZER.encode())
    return None if stated is None else stated.decode("utf-8", "replace"), kind


def _check_dtype(shard: Shard, kind: pa.DataType | None, vocab_size: int, *, deletes: bool) -> None:
    value = getattr(kind, "value_type", None)
    if value is None or not pa.types.is_integer(value):
        return  # rejected when it is read
    if deletes and pa.types.is_fixed_size_list(kind):
        raise ConfigError(
            f"{shard.name}: ids of type {kind} have a fixed length, but the rule deletes. Remove rule.delete_below "
            "or action: delete, or write them as list<int32>."
        )
    try:
        pc.cast(pa.scalar(vocab_size - 1), value)
    except pa.ArrowInvalid:
        raise InputError(
            f"{shard.name}: ids of type {kind} cannot hold the tokenizer's {vocab_size} ids. Write them as list<int32>."
        ) from None
