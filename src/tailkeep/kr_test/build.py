"""From a corpus to its questions, without a model or through an endpoint.

Rule: the same corpus, options and seed give the same file; through an endpoint, the same answers do.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tailkeep.data import MultipleChoice, Question, write_tasks
from tailkeep.data.corpus import Layout, Rejected
from tailkeep.errors import InputError
from tailkeep.kr_test.cloze import Length, Pair, both_questions, gather, pair_up, questions_of
from tailkeep.kr_test.corpus import read_corpus, sentences_of
from tailkeep.kr_test.endpoint import Endpoint
from tailkeep.kr_test.lint import Margins, NGramReference, balanced, is_identical, leaks, question_key
from tailkeep.kr_test.llm_writer import Answers, Passage, passages_of, questions_in


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
    reference: Margins | None = None,
    reject: Callable[[Rejected], None] | None = None,
) -> BuiltTest:
    """At most `num_questions` questions of the corpus `inputs`, two a pair; see `cloze` and `lint.balanced`.

    Args:
        inputs: files, folders or globs.
        layout: where the documents are.
        num_questions: how many questions; two at least; an odd number is taken for one less.
        seed: draws documents and pairs.
        sentences: how many sentences of context at most.
        length: what a true and a false sentence must have in common beside their words and characters.
        reference: one more that must answer half of each pair, such as a model that never saw the corpus.
        reject: see `read_corpus`.

    Raises:
        InputError: a document cannot be read and `reject` is None, or no two sentences can exchange an entity.
    """
    documents = read_corpus(inputs, layout, reject=reject)
    blanks = gather(documents, num_questions=num_questions, seed=seed, sentences=sentences)
    candidates = pair_up(blanks, seed=seed, length=length)
    grams = NGramReference(candidates)
    false = {question.sentence_false for pair in candidates for question in both_questions(pair)}
    true_elsewhere: set[str] = set()
    for document in read_corpus(inputs, layout, reject=None if reject is None else lambda _: None):
        for sentence in sentences_of(document.text):
            grams.add(sentence)
            if sentence in false:
                true_elsewhere.add(sentence)
    faultless = list(_faultless(candidates, true_elsewhere))
    undecided, by_grams = balanced(faultless, grams.margins)
    pairs, by_reference = _first(undecided, max(1, num_questions // 2), reference)
    if not pairs:
        raise InputError(
            f"{len(blanks):,} entities were found in {', '.join(inputs)}, in {len(candidates):,} pairs that could be "
            f"exchanged, and a naive reference tells true from false in all {len(faultless):,} without fault. Give a "
            "larger corpus of prose with names, years or numbers, or more of it in one document (--document-separator)."
        )
    kinds = Counter(one.entity.kind for one, _ in pairs)
    counts = Counter(
        {"entities": len(blanks), "pairs": len(pairs), "false sentences of the corpus": len(true_elsewhere)}
    )
    counts["pairs within one document"] = sum(one.location == other.location for one, other in pairs)
    for name, verdicts in (("n-grams", by_grams), ("the reference model", by_reference)):
        counts += Counter({f"pairs of which {name} answer {verdict}": n for verdict, n in verdicts.items()})
    counts += Counter({f"pairs of kind {kind}": count for kind, count in kinds.items()})
    return BuiltTest(questions_of(pairs), counts)


def _faultless(pairs: Iterable[Pair], true_elsewhere: Collection[str]) -> Iterator[Pair]:
    """Those of `pairs` in whose questions `check` would find nothing, and whose false sentences the corpus lacks."""
    seen: set[tuple[str, ...]] = set()
    for pair in pairs:
        questions = both_questions(pair)
        keys = {question_key(question) for question in questions}
        false_sentences = {question.sentence_false for question in questions}
        if len(keys) < len(questions) or keys & seen or not false_sentences.isdisjoint(true_elsewhere):
            continue
        if not any(leaks(question) or is_identical(question) for question in questions):
            seen |= keys
            yield pair


def _first(pairs: Sequence[Pair], num_pairs: int, reference: Margins | None) -> tuple[list[Pair], Counter[str]]:
    """The first `num_pairs` of `pairs` that `reference` cannot tell, asked about no more of them than it takes."""
    if reference is None:
        return list(pairs[:num_pairs]), Counter()
    undecided: list[Pair] = []
    counts: Counter[str] = Counter()
    for start in range(0, len(pairs), num_pairs):
        more, verdicts = balanced(pairs[start : start + num_pairs], reference)
        undecided, counts = undecided + more, counts + verdicts
        if len(undecided) >= num_pairs:
            break
    return undecided[:num_pairs], counts


def find_passages(
    inputs: Sequence[str],
    layout: Layout,
    *,
    num_questions: int,
    seed: int = 0,
    reject: Callable[[Rejected], None] | None = None,
) -> list[Passage]:
    """The passages to ask an endpoint about, no text twice, for `num_questions` questions, two a passage.

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
    *,
    num_questions: int,
) -> BuiltTest:
    """At most `num_questions` questions that `endpoint` writes about `passages`; nothing in `answers` is sent again.

    A question is asked once, however many answers hold it. No passage is sent once there are enough.

    Raises:
        EndpointError: the endpoint fails; what it has answered is in `answers`.
        InputError: none of the answers holds a question.
    """
    questions: list[Question] = []
    counts: Counter[str] = Counter()
    seen: set[tuple[str, ...]] = set()
    for passage in passages:
        if len(questions) >= num_questions:
            break
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
        usable, rejected = questions_in(passage, reply.content, seen)
        questions += usable
        seen.update(map(question_key, usable))
        counts += rejected
    if not questions:
        raise InputError(
            f"{endpoint.host} wrote no usable question in {len(passages)} answers: {dict(counts)}. Try another --model."
        )
    return BuiltTest(questions[:num_questions], counts)


def unanswered(passages: Sequence[Passage], model: str, answers: Answers) -> list[Passage]:
    """Those of `passages` that are still to be paid for."""
    return [passage for passage in passages if answers.get(passage.key(model)) is None]


# A test as a task of lm-evaluation-harness. Rule: the harness' `acc` is our `sum`.


def export(questions: Sequence[Question], out: Path, *, name: str = "kr_test") -> Path:
    """Write `questions` as the task `name` into the new or empty folder `out`; returns the YAML file.

    The true sentence is the first choice of every other question, so that ties count half on average.

    Raises:
        ConfigError: the name cannot be that of a task.
        InputError: `out` holds other things.
        StorageError: the file system refused.
    """
    items = [_choice(question, number % 2) for number, question in enumerate(questions)]
    return write_tasks({name: items}, out)[0]


def _choice(question: Question, gold: int) -> MultipleChoice:
    sentences = (question.sentence_true, question.sentence_false)
    return MultipleChoice(question.context, sentences if gold == 0 else sentences[::-1], gold)
