"""From a corpus to its questions, without a model or through an endpoint.

Rule: the same corpus, options and seed give the same file; through an endpoint, the same answers do.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tailkeep.data import MultipleChoice, Question, write_tasks
from tailkeep.data.corpus import Layout, Rejected
from tailkeep.errors import InputError
from tailkeep.kr_test.cloze import Length, gather, pair_up, questions_of, sentences_among
from tailkeep.kr_test.corpus import read_corpus
from tailkeep.kr_test.llm_writer import Answers, Endpoint, Passage, passages_of, questions_in
from tailkeep.runs import Storage


@dataclass(frozen=True)
class BuiltTest:
    """The questions, and what was counted on the way."""

    questions: list[Question]
    counts: Counter[str] = field(default_factory=Counter)


def build_cloze(
    inputs: Sequence[str],
    layout: Layout,
    *,
    num_questions: int,
    seed: int = 0,
    sentences: int = 1,
    length: Length | None = None,
    reject: Callable[[Rejected], None] | None = None,
) -> BuiltTest:
    """At most `num_questions` questions of the corpus `inputs`, two a pair; see `cloze`.

    Args:
        inputs: files, folders or globs.
        layout: where the documents are.
        num_questions: how many questions; an odd number is taken for one less.
        seed: draws documents and pairs.
        sentences: how many sentences of context at most.
        length: what a true and a false sentence must have in common beside their words and characters.
        reject: see `read_corpus`.

    Raises:
        InputError: a document cannot be read and `reject` is None, or no two sentences can exchange an entity.
    """
    documents = read_corpus(inputs, layout, reject=reject)
    blanks = gather(documents, num_questions=num_questions, seed=seed, sentences=sentences)
    pairs = pair_up(blanks, num_pairs=num_questions // 2, seed=seed, length=length)
    candidates = questions_of(pairs)
    again = read_corpus(inputs, layout, reject=None if reject is None else lambda _: None)
    true_elsewhere = sentences_among((question.sentence_false for question in candidates), again)
    questions = questions_of(pairs, excluded=true_elsewhere)
    if not questions:
        raise InputError(
            f"{len(blanks):,} entities were found in {', '.join(inputs)}, and no two that could be exchanged. Give a "
            "larger corpus of prose with names, years or numbers, or more of it in one document (--document-separator)."
        )
    kinds = Counter(one.entity.kind for one, _ in pairs)
    counts = Counter(
        {"entities": len(blanks), "pairs": len(pairs), "false sentences of the corpus": len(true_elsewhere)}
    )
    counts["pairs within one document"] = sum(one.location == other.location for one, other in pairs)
    return BuiltTest(questions, counts + Counter({f"pairs of kind {kind}": count for kind, count in kinds.items()}))


def find_passages(
    inputs: Sequence[str],
    layout: Layout,
    *,
    num_questions: int,
    seed: int = 0,
    reject: Callable[[Rejected], None] | None = None,
) -> list[Passage]:
    """The passages to ask an endpoint about, for about `num_questions` questions, two a passage.

    `reject` is as in `read_corpus`.

    Raises:
        InputError: a document cannot be read and `reject` is None, or none is long enough.
    """
    documents = read_corpus(inputs, layout, reject=reject)
    passages = passages_of(documents, num_passages=-(-num_questions // 2), seed=seed)
    if not passages:
        raise InputError(f"no document of {', '.join(inputs)} has 15 words. Give longer ones (--document-separator).")
    return passages


def build_by_llm(
    passages: Sequence[Passage],
    endpoint: Endpoint,
    answers: Answers,
) -> BuiltTest:
    """The questions that `endpoint` writes about `passages`; those in `answers` are not asked for again.

    Raises:
        EndpointError: the endpoint fails; what it has answered is in `answers`.
        InputError: none of the answers holds a question.
    """
    questions: list[Question] = []
    counts: Counter[str] = Counter()
    for passage in passages:
        key = passage.key(endpoint.model)
        reply = answers.get(key)
        if reply is None:
            reply = endpoint.ask(passage.messages())
            answers.add(key, reply)
            counts["requests"] += 1
        else:
            counts["answered before"] += 1
        counts["prompt tokens"] += reply.prompt_tokens
        counts["completion tokens"] += reply.completion_tokens
        usable, rejected = questions_in(passage, reply.content)
        questions += usable
        counts += rejected
    if not questions:
        raise InputError(
            f"{endpoint.host} wrote no usable question in {len(passages)} answers: {dict(counts)}. Try another --model."
        )
    return BuiltTest(questions, counts)


def unanswered(passages: Sequence[Passage], model: str, answers: Answers) -> list[Passage]:
    """Those of `passages` that are still to be paid for."""
    return [passage for passage in passages if answers.get(passage.key(model)) is None]


# A test as a task of lm-evaluation-harness. Rule: the harness' `acc` is our `sum`.


def export(questions: Sequence[Question], out: Path, *, name: str = "kr_test", storage: Storage | None = None) -> Path:
    """Write `questions` as the task `name` into the new or empty folder `out`; returns the YAML file.

    The true sentence is the first choice of every other question, so that ties count half on average.

    Raises:
        ConfigError: the name cannot be that of a task.
        InputError: `out` holds other things.
        StorageError: the file system refused.
    """
    items = [_choice(question, number % 2) for number, question in enumerate(questions)]
    return write_tasks({name: items}, out, storage=storage)[0]


def _choice(question: Question, gold: int) -> MultipleChoice:
    sentences = (question.sentence_true, question.sentence_false)
    return MultipleChoice(question.context, sentences if gold == 0 else sentences[::-1], gold)
