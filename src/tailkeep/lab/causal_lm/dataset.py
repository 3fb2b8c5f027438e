"""The text of a language-model arm: real and held-out documents, questions, and the truth where it is known.

Rule: no held-out or calibration document is ever trained on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailkeep.config import describe
from tailkeep.data import Question, TextRecord, World, read_answered, read_prompted, read_questions, read_records
from tailkeep.data.corpus import read_weights, repeat_count
from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.data_config import (
    AnsweredSource,
    AnyCorpus,
    CodeCorpus,
    InterleavedCorpus,
    TextCorpus,
    TextSource,
    WorldCorpus,
)
from tailkeep.lab.causal_lm.downstream import DownstreamTests, read_tests

HELD_OUT = 0.1
"""The share of documents held out where the settings name neither a share nor a file."""

Item = TypeVar("Item")
Truth = Callable[[Sequence[str]], dict[str, float]]
"""Generated documents -> metrics against a known truth."""
PeopleCounter = Callable[[Sequence[str]], NDArray[np.int64]]
"""Documents -> how many of them name each person of a world, the most frequent person first."""


@dataclass(frozen=True)
class DocumentLines:
    """The lines of the real documents in the file that questions are about, which has `total` lines.

    `lines` are the first lines of the documents, None for a document of another file; the last one ends before the line
    `end`.
    """

    lines: Sequence[int | None]
    end: int
    total: int


@dataclass(frozen=True)
class TextDataset:
    """Documents; none of `held_out` and `calibration` is trained on. `world` is None for text from a file.

    `document_lines` is None where the locations of questions are no lines of a file, or its documents are resampled.
    """

    real: list[TextRecord]
    held_out: list[TextRecord]
    questions: list[Question]
    world: World | None
    document_lines: DocumentLines | None = None
    calibration: list[TextRecord] = field(default_factory=list)
    tests: DownstreamTests = field(default_factory=dict)

    @property
    def truth(self) -> Truth | None:
        """The measure of how true documents are, where the truth is known."""
        return None if self.world is None else self.world.truth_metrics

    @property
    def people(self) -> PeopleCounter | None:
        """The count of documents by person, where there is a world of people."""
        return None if self.world is None else self.world.count_people


def read_dataset(settings: AnyCorpus) -> TextDataset:
    """The corpus that `settings` describes.

    Raises:
        InputError: a file is missing, empty, not UTF-8, or leaves nothing to train on or to hold out.
    """
    match settings:
        case TextCorpus():
            corpus = _text(settings)
        case InterleavedCorpus():
            corpus = _interleaved(settings)
        case WorldCorpus():
            corpus = _world(settings)
        case CodeCorpus():
            corpus = _from_code(settings)
    share = None if isinstance(settings, InterleavedCorpus) else settings.calibration
    num_calibration = 0 if share is None else max(1, round(share * len(corpus.real)))
    if num_calibration >= len(corpus.real):
        raise InputError(
            f"data.calibration: {len(corpus.real)} real document(s) are too few to set some aside. Give more documents."
        )
    end = len(corpus.real) - num_calibration
    real = corpus.real[:end]
    # Sampled when calibration is cut off: no document of it is trained on.
    if isinstance(settings, TextCorpus) and settings.weights is not None:
        real = _weighted(real, settings)
    return replace(
        corpus,
        real=real,
        calibration=corpus.real[end:],
        tests=read_tests(settings.downstream),
        document_lines=corpus.document_lines and _first_lines(corpus.document_lines, end),
    )


def interleave(sources: Sequence[Sequence[Item]], chunks: int) -> list[Item]:
    """Part 1 of `chunks` of each source in turn, then part 2 of each: source s is split at k len(s) // chunks."""
    return [
        item
        for chunk in range(chunks)
        for source in sources
        for item in source[chunk * len(source) // chunks : (chunk + 1) * len(source) // chunks]
    ]


def _text(settings: TextCorpus) -> TextDataset:
    whole = _read(settings.path, settings)
    documents = whole[: settings.limit]
    end = len(documents)
    if settings.held_out_path is not None:
        held_out = _read(settings.held_out_path, settings)[: settings.held_out_limit]
    else:
        end -= round((settings.held_out or HELD_OUT) * len(documents))
        held_out = documents[end:]
    if not end or not held_out:
        raise InputError(
            f"{settings.path}: {len(documents)} document(s) cannot be split into real and held-out ones. "
            "Give more documents (see data.separator), or data.held_out_path."
        )
    questions = read_questions(settings.kr_test) if settings.kr_test else []
    real = documents[:end]
    if settings.weights is not None:
        _check_weights(settings, len(whole))
        return TextDataset(real, held_out, questions, None)
    return TextDataset(real, held_out, questions, None, _lines_of(whole, real))


def _interleaved(settings: InterleavedCorpus) -> TextDataset:
    whole = [_source(source) for source in settings.sources.values()]
    real: list[list[TextRecord]] = []
    held_out: list[TextRecord] = []
    for name, source, documents in zip(settings.sources, settings.sources.values(), whole, strict=True):
        used = documents[: source.limit]
        end = len(used) - max(1, round(settings.held_out * len(used)))
        if end < settings.chunks:
            raise InputError(
                f"data.sources.{name}: {len(used)} document(s) cannot be split into {settings.chunks} chunks and "
                "held-out ones. Give more documents, or set data.chunks."
            )
        real.append(used[:end])
        held_out += used[end:]
    # Questions are about the first source alone.
    others = [[replace(document, line=None) for document in part] for part in real[1:]]
    pool = interleave([real[0], *others], settings.chunks)
    questions = read_questions(settings.kr_test) if settings.kr_test else []
    return TextDataset(pool, held_out, questions, None, _lines_of(whole[0], pool))


def _source(settings: TextSource | AnsweredSource) -> list[TextRecord]:
    if isinstance(settings, TextSource):
        return read_records(settings.path, separator=_separator(settings))
    return [TextRecord(text, line=number) for number, text in enumerate(read_answered(settings.path))]


def _separator(settings: TextSource | TextCorpus) -> str:
    return "blank-line" if settings.separator is None else settings.separator


def _lines_of(whole: Sequence[TextRecord], real: Sequence[TextRecord]) -> DocumentLines:
    """The lines of `real`: documents of the file `whole`, and others without a line."""
    begins = [record.line for record in whole if record.line is not None]
    total = begins[-1] + whole[-1].text.count("\n") + 1
    return _document_lines([record.line for record in real], [*begins, total], total)


def _document_lines(lines: Sequence[int | None], begins: Sequence[int], total: int) -> DocumentLines:
    last = max((line for line in lines if line is not None), default=-1)
    return DocumentLines(lines, min((line for line in begins if line > last), default=total), total)


def _first_lines(document_lines: DocumentLines, count: int) -> DocumentLines:
    """Those of the first `count` documents."""
    begins = [line for line in (*document_lines.lines, document_lines.end) if line is not None]
    return _document_lines(document_lines.lines[:count], begins, document_lines.total)


def _read(path: Path, settings: TextCorpus) -> list[TextRecord]:
    field = settings.text_field or "text"
    if settings.prompt_field is not None:
        return read_prompted(path, prompt_field=settings.prompt_field, field=field)
    return read_records(path, separator=_separator(settings), field=field)


def _check_weights(settings: TextCorpus, documents: int) -> None:
    assert settings.weights is not None
    if (count := len(read_weights(settings.weights))) != documents:
        raise InputError(
            f"{settings.weights} has {count} weights, but {settings.path} has {documents} documents. "
            "Select from this very file, with the same data.separator."
        )


def _weighted(real: list[TextRecord], settings: TextCorpus) -> list[TextRecord]:
    """As many documents as `real`, which are the file's first, each in proportion to its weight."""
    assert settings.weights is not None
    weights = list(read_weights(settings.weights).values())
    counts = repeat_count(weights[: len(real)], len(real), seed=settings.weights_seed or 0)
    return [record for record, count in zip(real, counts, strict=True) for _ in range(count)]


def _from_code(settings: CodeCorpus) -> TextDataset:
    documents = settings.bind("data")()
    parts = [_check_texts(documents, name, f"data: {settings.origin()}") for name in ("real", "held_out")]
    real, held_out = ([TextRecord(text) for text in part] for part in parts)
    return TextDataset(real, held_out, read_questions(settings.kr_test) if settings.kr_test else [], None)


def _check_texts(documents: Any, name: str, code: str) -> Sequence[str]:
    texts = documents.get(name) if isinstance(documents, Mapping) else documents
    place = f" under {name!r}" if isinstance(documents, Mapping) else ""
    fault = f"{describe(texts)}{place}"
    if place and isinstance(texts, Sequence) and not isinstance(texts, str | bytes):
        wrong = [text for text in texts if not isinstance(text, str) or not text]
        if texts and not wrong:
            return texts
        fault = f"{describe(wrong[0])} among the texts{place}" if wrong else f"no text{place}"
    raise InputError(
        f"{code} returned {fault}. Return {{'real': [text, ...], 'held_out': [text, ...]}}, without empty texts."
    )


def _world(settings: WorldCorpus) -> TextDataset:
    world = World(settings)
    real, held_out = ([TextRecord(text) for text in texts] for texts in (world.corpus(), world.held_out()))
    return TextDataset(real, held_out, world.questions(rounds=settings.question_rounds), world)
