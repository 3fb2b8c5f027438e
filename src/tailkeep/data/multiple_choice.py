"""Downstream tests: multiple choice, minimal pairs and GSM8K problems, read from files or written for lm-eval.

Rule: which items are evaluated depends only on the file, their number and the seed, so every model answers the same.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.config import dump_tree
from tailkeep.data.corpus import Layout, find_shards, read_objects, read_stream
from tailkeep.data.documents import check_unicode, read_values, text_of
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import Storage

_DISTRACTORS = 3
_ANSWER_MARKER = "#### "


@dataclass(frozen=True)
class MultipleChoice:
    """A query and its possible answers: `choices[gold]` is correct. In a minimal pair `query` is empty.

    `query_without_context` leaves out the text that the answer is to be found in: how likely a choice is without it.
    """

    query: str
    choices: tuple[str, ...]
    gold: int
    query_without_context: str | None = None


def read_choices(path: Path, *, skip: int = 0, limit: int | None = None, seed: int = 0) -> list[MultipleChoice]:
    """At most `limit` items of a file of objects, such as `.jsonl`, sampled by `seed` and in its order.

    The first `skip` items are left out, such as those that a model trains on.

    An item is {query, choices, gold} (`gold` is the 0-based index of the correct choice; a query with a line that
    begins with `Question:` gets a line `Answer:`), perhaps with a `query_without_context`, or it is a GSM8K problem
    {question, answer}: its answer is the number after `####`, and the answers of three other problems, sampled by
    `seed`, are the wrong choices, so chance is 1/4.

    Raises:
        InputError: the file cannot be read, holds no item, or a line is not of these forms; the message names it.
    """
    lines = list(_objects(read_values(path)))
    if not lines:
        raise InputError(f"{path} holds no question. Give a file with at least one.")
    if skip >= len(lines):
        raise InputError(f"{path} holds {len(lines)} questions, and {skip} are to be skipped. Lower skip.")
    indices = [skip + index for index in _sample_indices(len(lines) - skip, limit, seed)]
    if "answer" not in lines[0][1]:
        return [_parse_choice(*lines[index]) for index in indices]
    problems = [_parse_problem(where, item) for where, item in lines]
    return _problem_choices(problems, indices, path, seed)


def read_answered(path: Path) -> list[str]:
    """The items of a file of objects as texts to train on: the query, a space, and the full correct answer.

    Lines and queries are as in `read_choices`; a GSM8K answer keeps its reasoning.

    Raises:
        InputError: the file cannot be read, holds no item, or a line is not of these forms; the message names it.
    """
    texts = []
    for where, item in _objects(read_values(path)):
        if "answer" in item:
            query = _format_query("Question: " + _text(item, "question", where))
            texts.append(f"{query} {_text(item, 'answer', where)}")
        else:
            choice = _parse_choice(where, item)
            texts.append(f"{choice.query} {choice.choices[choice.gold]}")
    if not texts:
        raise InputError(f"{path} holds no question. Give a file with at least one.")
    return texts


def read_minimal_pairs(path: Path, *, limit: int | None = None, seed: int = 0) -> dict[str, list[MultipleChoice]]:
    """BLiMP's minimal pairs by paradigm: at most `limit` of each file in the folder or zip archive at `path`.

    An item is {sentence_good, sentence_bad}; a paradigm has the name of its file. The good sentence is choice 0.

    Raises:
        InputError: there is no such file, or a line is not of this form; the message names it.
    """
    pairs: dict[str, list[MultipleChoice]] = {}
    for name, all_pairs in _members(path):
        if not all_pairs:
            raise InputError(f"{path}: {name} holds no pair. Remove the file, or add a pair.")
        paradigm = name.partition(".")[0]
        if paradigm in pairs:
            raise InputError(f"{path} holds two files called {name}. Rename one of them.")
        pairs[paradigm] = [all_pairs[index] for index in _sample_indices(len(all_pairs), limit, seed)]
    if not pairs:
        raise InputError(f"{path} holds no .jsonl file of minimal pairs. Give a zip archive or a folder of such files.")
    return pairs


MAX_ARCHIVE_BYTES = 1 << 28
"""Of all files of an archive together, unpacked: BLiMP has 30 MB."""


def _members(path: Path) -> Iterator[tuple[str, list[MultipleChoice]]]:
    """The name of each file, sorted, and its pairs."""
    if path.is_dir():
        if any(path.iterdir()):
            for shard in find_shards(path):
                yield Path(shard.name).name, _parse_pairs(read_objects(shard, Layout(), folder=f"{path}: "))
        return
    try:
        with zipfile.ZipFile(path) as archive:
            # An archive made on a Mac has a hidden twin, `._name`, of each file.
            members = {info: Path(info.filename).name for info in archive.infolist()}
            files = {info: name for info, name in members.items() if name.endswith(".jsonl") and name[0] != "."}
            _check_bounded(path, files)
            for info, name in sorted(files.items(), key=lambda item: item[1]):
                with archive.open(info) as file:
                    yield name, _parse_pairs(read_stream(file, f"{path}: {name}"))
    # An archive with a password or an unknown compression raises RuntimeError, one that ends too early EOFError.
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"cannot read {path} ({reason}). Give a folder or a zip archive of .jsonl files.") from None


def _check_bounded(path: Path, files: Mapping[zipfile.ZipInfo, str]) -> None:
    """Refuse an archive that would unpack to more than `MAX_ARCHIVE_BYTES`, before any of it is unpacked.

    zipfile gives no more of a file than its header says, and of deflate no more at a time than is read. It unpacks any
    other compression without a bound: 256 MiB of zeros are 208 bytes of bzip2.
    """
    for info, name in files.items():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{path}: {name} is compressed with method {info.compress_type}. Pack it with deflate.")
    if (total := sum(info.file_size for info in files)) > MAX_ARCHIVE_BYTES:
        raise InputError(
            f"{path} holds {total:,} bytes of .jsonl files, more than {MAX_ARCHIVE_BYTES:,}. "
            "Unpack it and give the folder."
        )


def _objects(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, item in values:
        if not isinstance(item, Mapping):
            raise InputError(f"{where}: expected an object, got {type(item).__name__}. Write one object per line.")
        yield where, item


def _sample_indices(size: int, limit: int | None, seed: int) -> list[int]:
    if limit is None or size <= limit:
        return list(range(size))
    return sorted(np.random.default_rng(seed).choice(size, size=limit, replace=False).tolist())


def _parse_choice(where: str, item: Mapping[str, Any]) -> MultipleChoice:
    query, choices, gold = _text(item, "query", where), item.get("choices"), item.get("gold")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        raise InputError(f"{where}: 'choices' is {choices!r}. Give a list of two or more texts, none of them empty.")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise InputError(f"{where}: 'gold' is {gold!r}. Give the index of the correct choice, from 0.")
    bare = None
    if item.get("query_without_context") is not None:
        bare = _format_query(_text(item, "query_without_context", where))
    texts = tuple(check_unicode(choice, where).strip() for choice in choices)
    return MultipleChoice(_format_query(query), texts, gold, bare)


def _parse_pairs(values: Iterable[tuple[str, Any]]) -> list[MultipleChoice]:
    return [
        MultipleChoice("", (_text(item, "sentence_good", where), _text(item, "sentence_bad", where)), 0)
        for where, item in _objects(values)
    ]


def _parse_problem(where: str, item: Mapping[str, Any]) -> tuple[str, str]:
    question, answer = _text(item, "question", where), _text(item, "answer", where)
    if _ANSWER_MARKER not in answer:
        raise InputError(f"{where}: 'answer' has no '{_ANSWER_MARKER}' before its number. Give GSM8K's form.")
    return question, answer.rsplit(_ANSWER_MARKER, 1)[1].strip()


def _problem_choices(
    problems: list[tuple[str, str]], indices: list[int], path: Path, seed: int
) -> list[MultipleChoice]:
    distinct = len({_number_of(answer) for _, answer in problems})
    if distinct <= _DISTRACTORS:
        least = _DISTRACTORS + 1
        raise InputError(f"{path}: {distinct} different answers. Give at least {least} problems with different ones.")
    items = []
    for index in indices:
        question, answer = problems[index]
        rng = np.random.default_rng([seed, index])
        # Problems are sampled, not answers: among distinct answers large numbers would stand out as wrong.
        others = (problems[other][1] for other in rng.permutation(len(problems)).tolist())
        choices = list(islice(_different(chain([answer], others)), _DISTRACTORS + 1))
        order = rng.permutation(len(choices)).tolist()
        shuffled = tuple(choices[position] for position in order)
        items.append(MultipleChoice(_format_query(f"Question: {question}"), shuffled, shuffled.index(answer)))
    return items


def _different(answers: Iterable[str]) -> Iterator[str]:
    """Those of `answers` that are not an earlier one, spelled otherwise."""
    seen = set()
    for answer in answers:
        if (number := _number_of(answer)) not in seen:
            seen.add(number)
            yield answer


def _number_of(answer: str) -> str:
    """`answer` without what only spells its number: `$1,000.00` is 1E+3, as 1000 is."""
    plain = answer.replace(",", "").replace("$", "").removesuffix(".")
    try:
        return str(Decimal(plain).normalize())
    except InvalidOperation:
        return plain


def _format_query(query: str) -> str:
    is_question = any(line.startswith("Question:") for line in query.split("\n"))
    return f"{query}\nAnswer:" if is_question and not query.endswith("Answer:") else query


def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    text = text_of(item, key, where)
    if not text:
        raise InputError(f"{where}: {key!r} is {item[key]!r}. Give text.")
    return text


# Tasks of lm-evaluation-harness, two files each, which it runs offline. The harness joins a query and its choices
# without a space, so each choice begins with one; its `acc` compares summed log-probabilities.


_TASK_NAME = re.compile(r"[A-Za-z0-9_]+")


def write_tasks(tests: Mapping[str, Sequence[MultipleChoice]], out: Path) -> list[Path]:
    """Write each test as a task into the new or empty folder `out`; return the YAML files in the order of `tests`.

    A YAML file holds the absolute path of its data: the harness resolves relative ones from its working directory.

    Raises:
        ConfigError: a name is not valid for a task.
        InputError: `out` is not empty, or is a file.
        StorageError: the file system refused.
    """
    for name in tests:
        if not _TASK_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} cannot name a task. Use letters, digits and '_'.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        state = "is not empty" if out.is_dir() else "is a file"
        raise InputError(f"{out} {state}. Give a new or an empty folder.")
    target = out.resolve()

    def fill(folder: Path) -> None:
        for name, items in tests.items():
            lines = "".join(json.dumps(_document(item), ensure_ascii=False) + "\n" for item in items)
            (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
            task = _task(name, target / f"{name}.jsonl")
            (folder / f"{name}.yaml").write_text(dump_tree(task), encoding="utf-8")

    Storage().write_folder(target, fill)
    return [target / f"{name}.yaml" for name in tests]


def _task(name: str, data: Path) -> dict[str, Any]:
    # Bare column names: the harness parses a rendered template as a Python value where it looks like one.
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1},
    }


def _document(item: MultipleChoice) -> dict[str, Any]:
    choices = [f" {choice}" if item.query else choice for choice in item.choices]
    return {"context": item.query, "choices": choices, "gold": item.gold}
