"""Questions with several answers, from the files of downstream tests: multiple choice, minimal pairs, sums.

Rule: which items are asked depends on the file, the number and the seed alone, so every model answers the same ones.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from tailkeep.config import dump_tree
from tailkeep.data.documents import check_unicode, read_text
from tailkeep.errors import ConfigError, InputError
from tailkeep.runs import Storage

_DISTRACTORS = 3
_SUM = "#### "


@dataclass(frozen=True)
class MultipleChoice:
    """A text and what may follow it: `choices[gold]` is right. In a minimal pair `query` is empty."""

    query: str
    choices: tuple[str, ...]
    gold: int


def read_choices(path: Path, *, skip: int = 0, limit: int | None = None, seed: int = 0) -> list[MultipleChoice]:
    """At most `limit` items of a `.jsonl` file, drawn by `seed` and in the file's order; all if not given.

    The first `skip` items are not asked, such as those that a model trains on.

    A line is {query, choices, gold} (`gold` the 0-based number of the right choice; a query with a line that begins
    with `Question:` gets a line `Answer:`), or a GSM8K problem {question, answer}: its answer is the number behind
    `####`, to be told from the answers of three other problems, drawn by `seed`, so that chance is 1/4.

    Raises:
        InputError: the file cannot be read, holds no item, or a line is not of these forms; the message names it.
    """
    lines = list(_objects(read_text(path), str(path)))
    if not lines:
        raise InputError(f"{path} holds no question. Give a file with at least one.")
    if skip >= len(lines):
        raise InputError(f"{path} holds {len(lines)} questions, and {skip} are to be skipped. Leave some to ask.")
    chosen = [skip + number for number in _drawn(len(lines) - skip, limit, seed)]
    if "answer" not in lines[0][1]:
        return [_choice(*lines[number]) for number in chosen]
    problems = [_problem(where, item) for where, item in lines]
    return _sums(problems, chosen, path, seed)


def read_answered(path: Path) -> list[str]:
    """The items of a `.jsonl` file as texts to train on: what is asked, a space, and the right answer in full.

    A line is as in `read_choices`, and asked in the same form; a GSM8K answer keeps its reasoning.

    Raises:
        InputError: the file cannot be read, holds no item, or a line is not of these forms; the message names it.
    """
    found = []
    for where, item in _objects(read_text(path), str(path)):
        if "answer" in item:
            found.append(f"{_asked('Question: ' + _text(item, 'question', where))} {_text(item, 'answer', where)}")
        else:
            choice = _choice(where, item)
            found.append(f"{choice.query} {choice.choices[choice.gold]}")
    if not found:
        raise InputError(f"{path} holds no question. Give a file with at least one.")
    return found


def read_minimal_pairs(path: Path, *, limit: int | None = None, seed: int = 0) -> dict[str, list[MultipleChoice]]:
    """BLiMP's minimal pairs by paradigm: at most `limit` of each `.jsonl` file in the folder or zip archive at `path`.

    A line is {sentence_good, sentence_bad}; a paradigm is named by its file. The good sentence is choice 0.

    Raises:
        InputError: there is no such file, or a line is not of this form; the message names it.
    """
    found: dict[str, list[MultipleChoice]] = {}
    for name, text in sorted(_members(path)):
        lines = list(_objects(text, f"{path}: {name}"))
        if not lines:
            raise InputError(f"{path}: {name} holds no pair. Leave it out, or give one with at least one.")
        if Path(name).stem in found:
            raise InputError(f"{path} holds two files called {name}. Give each paradigm a name of its own.")
        found[Path(name).stem] = [_pair(*lines[number]) for number in _drawn(len(lines), limit, seed)]
    if not found:
        raise InputError(
            f"{path} holds no .jsonl file of minimal pairs. Give a zip archive, or the folder in which they lie."
        )
    return found


def _members(path: Path) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        yield from ((file.name, read_text(file)) for file in path.glob("*.jsonl") if not file.name.startswith("."))
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                # An archive made on a Mac has a hidden twin, `._name`, of each file.
                if name.endswith(".jsonl") and not Path(name).name.startswith("."):
                    yield Path(name).name, archive.read(name).decode("utf-8")
    # An archive with a password or an unknown compression raises the last.
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, RuntimeError) as error:
        raise InputError(f"cannot read {path} ({error}). Give a folder or a zip archive of .jsonl files.") from None


def _objects(text: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON ({error}). Write one object a line.") from None
        if not isinstance(item, Mapping):
            raise InputError(f"{where}: expected an object, found {type(item).__name__}. Write one object a line.")
        yield where, item


def _drawn(size: int, limit: int | None, seed: int) -> list[int]:
    if limit is None or size <= limit:
        return list(range(size))
    return sorted(np.random.default_rng(seed).choice(size, size=limit, replace=False).tolist())


def _choice(where: str, item: Mapping[str, Any]) -> MultipleChoice:
    query, choices, gold = _text(item, "query", where), item.get("choices"), item.get("gold")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        raise InputError(f"{where}: 'choices' is {choices!r}. Give a list of two or more texts, none of them empty.")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise InputError(f"{where}: 'gold' is {gold!r}. Give the number of the right choice, from 0.")
    return MultipleChoice(_asked(query), tuple(check_unicode(choice, where).strip() for choice in choices), gold)


def _pair(where: str, item: Mapping[str, Any]) -> MultipleChoice:
    return MultipleChoice("", (_text(item, "sentence_good", where), _text(item, "sentence_bad", where)), 0)


def _problem(where: str, item: Mapping[str, Any]) -> tuple[str, str]:
    question, answer = _text(item, "question", where), _text(item, "answer", where)
    if _SUM not in answer:
        raise InputError(f"{where}: 'answer' has no '{_SUM}' before its number. Give GSM8K's form.")
    return question, answer.rsplit(_SUM, 1)[1].strip()


def _sums(problems: list[tuple[str, str]], chosen: list[int], path: Path, seed: int) -> list[MultipleChoice]:
    different = len({answer for _, answer in problems})
    if different <= _DISTRACTORS:
        least = _DISTRACTORS + 1
        raise InputError(f"{path}: {different} different answers. Give at least {least} problems with different ones.")
    found = []
    for number in chosen:
        question, answer = problems[number]
        rng = np.random.default_rng([seed, number])
        # Problems are drawn, not answers: among answers large numbers would stand out as wrong.
        others = (problems[other][1] for other in rng.permutation(len(problems)).tolist())
        choices = list(islice(dict.fromkeys(chain([answer], others)), _DISTRACTORS + 1))
        order = rng.permutation(len(choices)).tolist()
        shuffled = tuple(choices[place] for place in order)
        found.append(MultipleChoice(_asked(f"Question: {question}"), shuffled, shuffled.index(answer)))
    return found


def _asked(query: str) -> str:
    is_question = any(line.startswith("Question:") for line in query.split("\n"))
    return f"{query}\nAnswer:" if is_question and not query.endswith("Answer:") else query


def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {key!r} is {value!r}. Give text.")
    return check_unicode(value, f"{where}, {key!r}").strip()


# Multiple choice as tasks of lm-evaluation-harness: two files each, which it runs offline.
#
# Rule: the harness joins a query and its choices itself, so a choice begins with the space; its `acc` compares summed
# log-probabilities.


_NAME = re.compile(r"[A-Za-z0-9_]+")


def write_tasks(
    tests: Mapping[str, Sequence[MultipleChoice]], out: Path, *, storage: Storage | None = None
) -> list[Path]:
    """Write each test as the task of its name into the new or empty folder `out`; the YAML files, in their order.

    A YAML names its data by the absolute path, since the harness reads relative ones from wherever it is started.

    Raises:
        ConfigError: a name cannot be that of a task.
        InputError: `out` holds other things.
        StorageError: the file system refused.
    """
    for name in tests:
        if not _NAME.fullmatch(name):
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

    (storage or Storage()).write_folder(target, fill)
    return [target / f"{name}.yaml" for name in tests]


def _task(name: str, data: Path) -> dict[str, Any]:
    # Bare names of columns: the harness takes a rendered template for a Python value where it looks like one.
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
