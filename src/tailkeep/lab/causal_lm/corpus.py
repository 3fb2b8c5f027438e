"""What a language model is studied on: real and held-out documents, questions, and the truth where it is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tailkeep.data import Question, Record, World, read_documents, read_questions, read_records
from tailkeep.data.corpus import read_weights, repeated
from tailkeep.errors import InputError
from tailkeep.lab.causal_lm.corpora import TextCorpus, WorldCorpus
from tailkeep.lab.causal_lm.downstream import Tests, read_tests

HELD_OUT = 0.1
"""The share of documents held out where the settings name neither a share nor a file."""

Truth = Callable[[Sequence[str]], dict[str, float]]
"""Machine-written documents -> metrics against a known truth."""


@dataclass(frozen=True)
class Corpus:
    """Documents; none of `held_out` and `calibration` is trained on. The embedded world alone has a `truth`."""

    real: list[Record]
    held_out: list[Record]
    questions: list[Question]
    truth: Truth | None
    calibration: list[Record] = field(default_factory=list)
    tests: Tests = field(default_factory=dict)


def read_corpus(settings: TextCorpus | WorldCorpus) -> Corpus:
    """The corpus that `settings` describes.

    Raises:
        InputError: a file is missing, empty, not UTF-8, or leaves nothing to train on or to hold out.
    """
    corpus = _world(settings) if isinstance(settings, WorldCorpus) else _text(settings)
    aside = 0 if settings.calibration is None else max(1, round(settings.calibration * len(corpus.real)))
    if aside >= len(corpus.real):
        raise InputError(
            f"data.calibration: {len(corpus.real)} real document(s) cannot be parted. Give more documents."
        )
    cut = len(corpus.real) - aside
    tests = read_tests(settings.downstream)
    return replace(corpus, real=corpus.real[:cut], calibration=corpus.real[cut:], tests=tests)


def _text(settings: TextCorpus) -> Corpus:
    whole = _read(settings.path, settings)
    documents = whole[: settings.limit]
    if settings.held_out_path is not None:
        real, held_out = documents, _read(settings.held_out_path, settings)
    else:
        cut = len(documents) - round((settings.held_out or HELD_OUT) * len(documents))
        real, held_out = documents[:cut], documents[cut:]
    if not real or not held_out:
        raise InputError(
            f"{settings.path}: {len(documents)} document(s) cannot be parted into real and held-out ones. "
            "Give more documents (see data.separator), or data.held_out_path."
        )
    if settings.weights is not None:
        real = _weighted(real, settings, len(whole))
    questions = read_questions(settings.kr_test) if settings.kr_test else []
    return Corpus(real, held_out, questions, None)


def _read(path: Path, settings: TextCorpus) -> list[Record]:
    field = settings.text_field or "text"
    if settings.prompt_field is not None:
        return read_records(path, prompt_field=settings.prompt_field, text_field=field)
    separator = "blank-line" if settings.separator is None else settings.separator
    return [Record(text) for text in read_documents(path, separator=separator, field=field)]


def _weighted(real: list[Record], settings: TextCorpus, documents: int) -> list[Record]:
    """As many documents as `real`, which are the file's first, each in proportion to its weight."""
    assert settings.weights is not None
    weights = list(read_weights(settings.weights).values())
    if len(weights) != documents:
        raise InputError(
            f"{settings.weights} has {len(weights)} weights, and {settings.path} {documents} documents. "
            "Select from this very file, with its documents cut alike (see data.separator)."
        )
    counts = repeated(weights[: len(real)], len(real), seed=settings.weights_seed or 0)
    return [record for record, count in zip(real, counts, strict=True) for _ in range(count)]


def _world(settings: WorldCorpus) -> Corpus:
    world = World(settings)
    real, held_out = ([Record(text) for text in texts] for texts in (world.corpus(), world.held_out()))
    return Corpus(real, held_out, world.questions(rounds=settings.question_rounds), world.truth_metrics)
