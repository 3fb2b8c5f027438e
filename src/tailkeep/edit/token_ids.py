"""Documents that are token ids already: of the prior's tokenizer, or refused.

    tailkeep.tokenizer   in the metadata of parquet files: the hash of the tokenizer

Rule: the ids of another tokenizer are words that nobody wrote, and no number tells; so a file says whose ids it holds,
or the user does.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tailkeep.data.corpus import Record, Shard, ShardIO, TextField
from tailkeep.data.corpus.io import TruncatedFileError, open_parquet
from tailkeep.edit.config import EditConfig
from tailkeep.edit.prior import EditPrior
from tailkeep.errors import ConfigError, InputError
from tailkeep.rules import Low, Rule, ToEdit, TokenTexts, read_token_texts
from tailkeep.scoring.loading import load_tokenizer

TOKENIZER = "tailkeep.tokenizer"
_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12


def check_tokenizer_of_ids(config: EditConfig, shards: Sequence[Shard], surfaces: TokenTexts) -> None:
    """Refuse token ids that are not, or may not be, of the tokenizer with these `surfaces`; text passes.

    Raises:
        InputError: a file or the layout names another tokenizer, neither names one, or a column is too narrow.
        ConfigError: a rule deletes from lists of a fixed length.
    """
    layout = config.layout
    if layout.token_field is None:
        return
    prior_hash = surfaces.fingerprint
    stated = None if layout.tokenizer is None else _hash_of(layout.tokenizer)
    if stated not in (None, prior_hash):
        raise InputError(
            f"layout.tokenizer: the ids are of the tokenizer {str(stated)[:_SHOWN]}, and the prior's is "
            f"{prior_hash[:_SHOWN]}. Give the prior whose tokenizer made them."
        )
    for shard in {shard.url: shard for shard in shards}.values():
        file_hash, kind = _tokenizer_hash_of(shard, layout.token_field)
        _refuse_narrow(shard, kind, len(surfaces.texts), deletes=_deletes(config.rule))
        if file_hash not in (None, prior_hash):
            raise InputError(
                f"{shard.name} holds ids of the tokenizer {str(file_hash)[:_SHOWN]}, but the prior's is "
                f"{prior_hash[:_SHOWN]}. Give the prior whose tokenizer made them, or edit the text."
            )
        if file_hash is None and stated is None:
            raise InputError(
                f"{shard.name} does not record which tokenizer produced its ids; ids from another tokenizer would "
                f"decode to different text. Set layout.tokenizer to its folder or hash; the prior's is {prior_hash}."
            )


def decode_records(
    records: Iterable[Record], shard_io: ShardIO, model: EditPrior, config: EditConfig
) -> Iterator[Record]:
    """Those of `records` whose ids the tokenizer knows; the others are rejected on the way. Text passes.

    Raises:
        ConfigError: a rule that deletes would part the ids from another list that is aligned with them.
        InputError: an id is unknown and documents are not to be skipped.
    """
    known, deletes = len(model.surfaces.texts), _deletes(config.rule)
    for record in records:
        tokens = record.tokens
        if tokens is not None and deletes:
            _refuse_aligned(record, tokens)
        if tokens is not None and (fault := _fault(tokens, known)):
            shard_io.reject(record, fault)
            continue
        yield record


def _fault(tokens: TextField, known: int) -> str:
    """What is wrong with the ids, or nothing."""
    ids = tokens.ids or ()
    if max(ids, default=0) < known:
        return ""
    at = next(number for number, token in enumerate(ids) if token >= known)
    return (
        f"number {at} of {tokens.path!r} is {ids[at]}, and the prior's tokenizer has ids up to {known - 1}. "
        "Give the prior whose tokenizer made them"
    )


def _refuse_aligned(record: Record, tokens: TextField) -> None:
    if tokens.aligned:
        raise ConfigError(
            f"{record.where}: the field {tokens.aligned[0]!r} is as long as {tokens.path!r}, and a rule that deletes "
            "would part them. Leave out rule.delete_below or action: delete, or drop the field."
        )


def _deletes(rule: Rule) -> bool:
    return (isinstance(rule, ToEdit) and rule.delete_below is not None) or (
        isinstance(rule, Low) and rule.action == "delete"
    )


def _hash_of(tokenizer: str) -> str:
    """The hash of the tokenizer in a folder, or the one that is given."""
    if _HASH.fullmatch(tokenizer):
        return tokenizer
    if not Path(tokenizer).is_dir():
        raise InputError(
            f"layout.tokenizer: {tokenizer} is no folder, and no hash of 64 digits. Give the folder of the tokenizer."
        )
    return read_token_texts(load_tokenizer(Path(tokenizer), key="layout.tokenizer")).fingerprint


def _tokenizer_hash_of(shard: Shard, path: str) -> tuple[str | None, pa.DataType | None]:
    """Of a parquet file the hash in its metadata, and the type of what lies at `path`."""
    if shard.kind != "parquet":
        return None, None
    try:
        with open_parquet(shard.url, shard.name) as file:
            schema = file.schema_arrow
    except TruncatedFileError:
        return None, None  # whoever reads it rejects it
    kind = pa.struct(list(schema))
    for key in path.split("."):
        at = kind.get_field_index(key) if pa.types.is_struct(kind) else -1
        kind = kind.field(at).type if at >= 0 else pa.null()
    stated = (schema.metadata or {}).get(TOKENIZER.encode())
    return None if stated is None else stated.decode("utf-8", "replace"), kind


def _refuse_narrow(shard: Shard, kind: pa.DataType | None, known: int, *, deletes: bool) -> None:
    value = getattr(kind, "value_type", None)
    if value is None or not pa.types.is_integer(value):
        return  # whoever reads it rejects it
    if deletes and pa.types.is_fixed_size_list(kind):
        raise ConfigError(
            f"{shard.name}: ids of type {kind} have a fixed length, and the rule deletes. Leave out rule.delete_below "
            "or action: delete, or write them as list<int32>."
        )
    try:
        pc.cast(pa.scalar(known - 1), value)
    except pa.ArrowInvalid:
        raise InputError(
            f"{shard.name}: ids of type {kind} have no room for the tokenizer's {known}. Write them as list<int32>."
        ) from None
