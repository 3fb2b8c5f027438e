import numpy as np
import pytest

from tailkeep import lab, report
from tailkeep.data import Question, write_questions
from tailkeep.errors import ConfigError, FingerprintError, InputError
from tailkeep.lab.causal_lm.data_config import InterleavedCorpus, TextCorpus
from tailkeep.lab.causal_lm.dataset import DocumentLines, interleave, read_dataset
from tailkeep.lab.causal_lm.kr_eval import OUTSIDE, STRADDLING, KREvaluator, assign_fractions
from tailkeep.lab.learners import sources_of
from tests.lab.causal_lm.tiny import STORIES, config_tree, write_stories


def at(*locations):
    return [Question(f"c{n}", "true", "false", location) for n, location in enumerate(locations)]


def constant(tokenizer, likely):
    """ln p -1 for the tokens of `likely`, -3 for all others."""
    ids = set(tokenizer.encode_without_eos(likely).tolist())
    return lambda rows: [np.array([-1.0 if i in ids else -3.0 for i in row[1:]]) for row in rows]


QUESTIONS = [Question(f"{name} saw a red", "cat", "boat", n) for n, name in enumerate(("Ann", "Ben", "Cleo"))]


def test_a_fraction_has_the_questions_whose_sources_lie_in_it_alone():
    # Documents begin in lines 0, 10, 20, 30, two a fraction; the file goes on to line 60.
    places = DocumentLines([0, 10, 20, 30], 40, 60)
    parts = assign_fractions(at(0, 5, 15, 22, 30, 45), places, [2, 2])
    # 15 reaches to 21, over the cut at 20; 30 to 44, beyond what is trained on; 45 lies behind it.
    assert parts.tolist() == [0, 0, STRADDLING, 1, OUTSIDE, OUTSIDE]


def test_documents_of_other_files_move_no_bound():
    places = DocumentLines([0, None, None, 10, 20, None], 30, 30)
    assert assign_fractions(at(0, 10, 20), places, [2, 2, 2]).tolist() == [0, 1, 2]


def test_questions_about_a_longer_text_are_from_outside():
    assert assign_fractions(at(0, 10, 1000), DocumentLines([0], 10, 10), [1]).tolist() == [0, OUTSIDE, OUTSIDE]


def test_questions_without_a_location_have_no_fractions():
    assert assign_fractions([*at(0), Question("c", "a", "b")], DocumentLines([0], 10, 10), [1]) is None


def test_questions_about_another_text_are_refused():
    with pytest.raises(InputError, match="none of the 1 questions is about the real documents, which are lines 0 to 9"):
        assign_fractions(at(500), DocumentLines([0], 10, 10), [1])


def test_what_is_outside_is_not_asked_and_what_straddles_is_in_no_fraction(tokenizer):
    kr_evaluator = KREvaluator(QUESTIONS, fractions=np.array([0, STRADDLING, OUTSIDE]))
    result = kr_evaluator.measure(constant(tokenizer, "cat"), tokenizer.encode_without_eos)
    assert result.metrics["kr_items"] == 2
    assert (result.metrics["kr_straddling"], result.metrics["kr_outside"]) == (1, 1)
    assert (result.metrics["kr_fraction_0"], result.metrics["kr_fraction_0.items"]) == (1, 1)
    assert result.tables["knowledge"]["numbers"] == [0, 1]
    assert [row["part"] for row in result.tables["knowledge"]["rows"]] == ["total", "fraction 0"]


def test_sum_and_mean_stand_beside_the_primary_score(tokenizer):
    # The true sentence is as likely a token and longer, so it loses by its sum alone; ties count half.
    questions = [Question("Ann saw a red", "cat cat cat", "cat")]
    result = KREvaluator(questions).measure(constant(tokenizer, " cat"), tokenizer.encode_without_eos).metrics
    assert (result["kr_accuracy"], result["kr_mean"], result["kr_sum"]) == (0.5, 0.5, 0.0)


def test_the_effect_of_a_form_is_told(tokenizer):
    # In WikiText's form the full stop stands apart, and only a word on its own is likely here.
    questions = [*QUESTIONS[:2], Question("Ann saw a red", "cat-boat", "boat-cat")]
    result = KREvaluator(questions, "wikitext").measure(constant(tokenizer, " @"), tokenizer.encode_without_eos)
    assert result.metrics["kr_reformed"] == 1
    plain = KREvaluator(questions).measure(constant(tokenizer, " @"), tokenizer.encode_without_eos).metrics
    assert result.metrics["kr_plain"] == plain["kr_accuracy"]
    assert result.tables["knowledge"]["form"]["p_value"] <= 1
    assert "kr_plain" not in plain


def test_a_file_is_told_by_its_questions_asked_or_not(tokenizer):
    log_probs = constant(tokenizer, "cat")
    files = [
        KREvaluator(questions, fractions=parts)
        .measure(log_probs, tokenizer.encode_without_eos)
        .tables["knowledge"]["file"]
        for questions, parts in ((QUESTIONS, None), (QUESTIONS, np.array([0, 0, OUTSIDE])), (QUESTIONS[:2], None))
    ]
    assert files[0] == files[1] != files[2]


def test_without_questions_nothing_is_measured(tokenizer):
    assert KREvaluator().measure(constant(tokenizer, "cat"), tokenizer.encode_without_eos).metrics == {}
    assert KREvaluator().max_length(tokenizer.encode_without_eos) == 0


# What the documents of a corpus know of their places


def texts(records):
    return [record.text for record in records]


def test_documents_know_their_lines_and_where_the_last_one_ends(tmp_path):
    (tmp_path / "t.txt").write_text("\n = A = \n\n one\n two\n\n = B = \n\n three\n")
    corpus = read_dataset(TextCorpus(name="text", path=tmp_path / "t.txt", limit=3, held_out=0.3))
    assert texts(corpus.real) == ["= A =", "one\n two"]
    assert corpus.document_lines == DocumentLines([1, 3], 6, 9)


def test_text_set_aside_or_drawn_anew_ends_or_loses_the_places(tmp_path):
    (tmp_path / "t.txt").write_text("\n".join("abcdefghij"))
    settings = {"name": "text", "path": tmp_path / "t.txt", "separator": "line"}
    corpus = read_dataset(TextCorpus(**settings, calibration=0.3))
    assert corpus.document_lines == DocumentLines(list(range(6)), 6, 10)


def test_held_out_documents_can_be_few(tmp_path):
    (tmp_path / "t.txt").write_text("a\nb\nc")
    settings = {"name": "text", "path": tmp_path / "t.txt", "separator": "line", "held_out_path": tmp_path / "t.txt"}
    assert texts(read_dataset(TextCorpus(**settings, held_out_limit=2)).held_out) == ["a", "b"]


def test_records_with_prompts_know_their_lines_too(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(f'{{"q": "{n or ""}", "text": "answer {n}"}}\n' for n in range(5)))
    settings = {"name": "text", "path": path, "prompt_field": "q", "held_out_path": path}
    corpus = read_dataset(TextCorpus(**settings, held_out_limit=1))
    assert corpus.document_lines == DocumentLines([1, 2, 3, 4], 5, 5)
    assert [record.full_text for record in corpus.held_out] == ["1\nanswer 1"]


def test_sources_are_interleaved_in_equal_parts_and_nothing_is_lost():
    assert interleave(["abcdef", "12", "xyz"], 2) == list("abc1xdef2yz")
    parts = interleave([range(7), range(100, 105)], 3)
    assert sorted(parts) == [*range(7), *range(100, 105)]


def interleaved(tmp_path, **changes):
    (tmp_path / "text.txt").write_text("\n\n".join(f"text {n}" for n in range(10)))
    (tmp_path / "sums.jsonl").write_text(
        "\n".join(f'{{"question": "q{n}", "answer": "r{n}\\n#### {n}"}}' for n in range(5))
    )
    sources = {
        "text": {"form": "text", "path": tmp_path / "text.txt"},
        "sums": {"form": "answered", "path": tmp_path / "sums.jsonl"},
    }
    return InterleavedCorpus.model_validate(
        {"name": "interleaved", "sources": sources, "chunks": 2, "held_out": 0.2, **changes}
    )


def test_each_source_holds_its_last_documents_out(tmp_path):
    corpus = read_dataset(interleaved(tmp_path))
    sums = [f"Question: q{n}\nAnswer: r{n}\n#### {n}" for n in range(5)]
    assert texts(corpus.real) == [
        *(f"text {n}" for n in range(4)), *sums[:2], *(f"text {n}" for n in range(4, 8)), *sums[2:4],
    ]  # fmt: skip
    assert texts(corpus.held_out) == ["text 8", "text 9", sums[4]]
    assert corpus.document_lines == DocumentLines([0, 2, 4, 6, None, None, 8, 10, 12, 14, None, None], 16, 19)


def test_a_source_too_small_for_the_chunks_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"data\.sources\.sums: 5 document\(s\) cannot be split into 5 chunks"):
        read_dataset(interleaved(tmp_path, chunks=5))


# In a recursion


def test_a_recursion_asks_by_fraction_in_the_form_of_its_text(tmp_path):
    path = write_stories(tmp_path)
    seen = [(n, story) for n, story in enumerate(STORIES) if " saw " in story]
    questions = [Question("It", story, story.replace("saw", "had"), n) for n, story in seen]
    write_questions(tmp_path / "kr.json", questions)
    data = {"name": "text", "path": str(path), "separator": "line", "held_out": 0.2}
    data |= {"kr_test": str(tmp_path / "kr.json"), "kr_form": "wikitext"}
    arms = {"baseline": {}, "replace": {"regime": {"name": "replace"}}}
    tree = config_tree(path, data=data, regime={"name": "regenerate", "fractions": 2}, arms=arms)
    run = lab.run(tree, tmp_path / "run")
    result = {arm: run.generation_dir(arm, 0, 1).metrics()["metrics"] for arm in arms}
    counts = result["baseline"]
    assert counts["kr_fraction_0.items"] + counts["kr_fraction_1.items"] + counts["kr_straddling"] == counts["kr_items"]
    assert counts["kr_items"] + counts["kr_outside"] == len(questions)
    # Both arms are asked the same questions: those about held-out documents are left out in every regime.
    assert counts["kr_outside"] == result["replace"]["kr_outside"] > 0
    assert counts["kr_items"] == result["replace"]["kr_items"]
    assert counts["kr_reformed"] == counts["kr_items"]
    assert not {"kr_fraction_0", "kr_fraction_0.items", "kr_straddling"} & result["replace"].keys()
    report.write(run.path)
    assert (run.path / "tables" / "mcnemar.csv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kr_form": "wikitext"}, "kr_form has no effect without kr_test"),
        ({"held_out_limit": 3}, "held_out_limit has no effect without held_out_path"),
        ({"kr_test": "q.json", "kr_form": "plane"}, "plain"),
    ],
)
def test_a_choice_that_would_do_nothing_is_refused(tmp_path, change, message):
    tree = config_tree(write_stories(tmp_path))
    tree["data"] |= change
    with pytest.raises(ConfigError, match=message):
        lab.load(tree)


def test_an_interleaved_corpus_runs_and_is_told_by_its_content(tmp_path):
    settings = interleaved(tmp_path).model_dump(mode="json")
    tree = config_tree(tmp_path / "none", data=settings, training={"block": 4, "batch": 8, "epochs": 1})
    first = lab.run(tree, tmp_path / "one")
    (tmp_path / "moved.txt").write_bytes((tmp_path / "text.txt").read_bytes())
    settings["sources"]["text"]["path"] = str(tmp_path / "moved.txt")
    assert lab.run(tree, tmp_path / "one").record.fingerprint == first.record.fingerprint
    (tmp_path / "moved.txt").write_text("other\n\n" * 9)
    with pytest.raises(FingerprintError, match=r"arms\.baseline\.data\.sources\.text\.path"):
        lab.run(tree, tmp_path / "one")


def test_sources_in_another_order_are_another_corpus(tmp_path):
    settings = interleaved(tmp_path).model_dump(mode="json")
    turned = {**settings, "sources": dict(reversed(settings["sources"].items()))}
    hashes = [
        sources_of(lab.load(config_tree(tmp_path, data=data)))["baseline"].fingerprint(0, 0)["inputs"]
        for data in (settings, turned, interleaved(tmp_path).model_dump(mode="json"))
    ]
    assert hashes[0] == hashes[2] != hashes[1]


def test_an_automatic_threshold_has_no_text_among_interleaved_sources(tmp_path):
    settings = interleaved(tmp_path).model_dump(mode="json")
    loss = {"name": "truncated", "threshold": "auto"}
    with pytest.raises(ConfigError, match="data 'interleaved' has none"):
        lab.load(config_tree(tmp_path, data=settings, loss=loss))
