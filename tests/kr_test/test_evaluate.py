import json

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailkeep.data import Question
from tailkeep.errors import ConfigError, InputError
from tailkeep.kr_test.build import export
from tailkeep.kr_test.evaluate import KRModel, token_counter
from tailkeep.scoring import encode_question, encode_without_eos, start_token_of
from tests.harness import evaluate, sums_of
from tests.kr_test.tiny import QUESTIONS, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def margins(model):
    return KRModel.load(model).answer(QUESTIONS)


def test_a_model_that_gives_nan_answers_nothing_and_its_weight_is_named(model, tmp_path):
    network = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        network.model.embed_tokens.weight[100:] = float("nan")
    network.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(model).save_pretrained(tmp_path)
    kr_model = KRModel.load(tmp_path)
    with pytest.raises(InputError, match=r"is NaN. The weight model\.embed_tokens\.weight of .* holds NaN or infinity"):
        kr_model.answer(QUESTIONS)


def sentence_log_probs(folder, context, sentence):
    """By transformers alone: ln p of the tokens of " sentence" after the context."""
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    before, ids = (tokenizer(text)["input_ids"] for text in (context, f"{context} {sentence}"))
    with torch.no_grad():
        log_probs = network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return np.array([log_probs[place - 1, ids[place]].item() for place in range(len(before), len(ids))])


def test_margins_are_those_of_the_sentences_tokens_alone(model, margins):
    for number, question in enumerate(QUESTIONS[:4]):
        true, false = (
            sentence_log_probs(model, question.context, text)
            for text in (question.sentence_true, question.sentence_false)
        )
        common = min(len(true), len(false))
        assert len(true) != len(false)
        assert margins.common[number] == pytest.approx(true[:common].mean() - false[:common].mean(), abs=1e-4)
        assert margins.sum[number] == pytest.approx(true.sum() - false.sum(), abs=1e-3)
        assert margins.mean[number] == pytest.approx(true.mean() - false.mean(), abs=1e-4)


def test_sentences_of_different_lengths_are_counted(margins):
    assert margins.uneven == len(QUESTIONS)
    assert margins.beyond_window == 0


def test_questions_that_the_model_cannot_read_at_once_are_counted(model):
    long = Question("Ann saw a cat. " * 30, "Ben had a hat.", "Ben had a cat.")
    assert KRModel.load(model).answer([long, QUESTIONS[0]]).beyond_window == 1


def test_the_form_of_wikitext_changes_what_the_model_reads(model, margins):
    assert np.abs(KRModel.load(model).answer(QUESTIONS, form="wikitext").sum - margins.sum).min() > 0


def test_tokens_are_counted_as_the_tokenizer_cuts_them(model):
    count = token_counter(model)
    assert count("Ann saw") == len(AutoTokenizer.from_pretrained(model)(" Ann saw")["input_ids"])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        KRModel.load(tmp_path)


# The export


def test_a_task_names_its_data_by_an_absolute_path_and_every_choice_starts_with_a_space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = yaml.safe_load(export(QUESTIONS, tmp_path / "task", name="mine").read_text())
    data = task["dataset_kwargs"]["data_files"]["test"]
    assert data == str(tmp_path / "task" / "mine.jsonl")
    with open(data) as file:
        documents = [json.loads(line) for line in file]
    assert [document["gold"] for document in documents[:3]] == [0, 1, 0]
    for document, question in zip(documents, QUESTIONS, strict=True):
        assert document["choices"][document["gold"]] == f" {question.sentence_true}"
        assert document["choices"][1 - document["gold"]] == f" {question.sentence_false}"


def test_an_export_refuses_other_things_and_names_that_are_none(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match="is not empty"):
        export(QUESTIONS, tmp_path)
    with pytest.raises(ConfigError, match="cannot name a task"):
        export(QUESTIONS, tmp_path / "new", name="a/b")


# The harness and what it loads warn of themselves.
@pytest.mark.filterwarnings("ignore")
def test_the_harness_agrees_with_our_numbers(model, margins, tmp_path, monkeypatch):
    found = evaluate(model, [export(QUESTIONS, tmp_path / "task")], monkeypatch, tmp_path / "cache")
    assert found["results"]["kr_test"]["acc,none"] == pytest.approx(np.mean(margins.sum > 0))
    for number, (sums, margin) in enumerate(zip(sums_of(found, "kr_test"), margins.sum, strict=True)):
        gold = number % 2
        assert sums[gold] - sums[1 - gold] == pytest.approx(margin, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_all_scores_are_one_where_sentences_are_equally_long(model, tmp_path, monkeypatch):
    even = [
        Question(q.context, f"{name} had a cat.", f"{name} had a hat.")
        for q in QUESTIONS[:4]
        for name in ("Ann", "Ben")
    ]
    count = token_counter(model)
    assert all(count(q.sentence_true) == count(q.sentence_false) for q in even)
    ours = KRModel.load(model).answer(even)
    assert ours.uneven == 0
    found = evaluate(model, [export(even, tmp_path / "task")], monkeypatch, tmp_path / "cache")["results"]["kr_test"]
    shares = {float(np.mean(margin > 0)) for margin in (ours.common, ours.sum, ours.mean)}
    assert shares == {found["acc,none"]} == {found["acc_norm,none"]}


@pytest.fixture(params=["adds it", "has one", "has none"])
def folder_by_start_token(request, tmp_path):
    """A model whose tokenizer puts a start token before texts, has one that it does not put there, or has none."""
    folder = save_model(tmp_path / "model")
    if request.param != "adds it":
        tree = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        (folder / "tokenizer.json").write_text(json.dumps({**tree, "post_processor": None}), encoding="utf-8")
    if request.param == "has none":
        tree = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tree.pop("bos_token")
        (folder / "tokenizer_config.json").write_text(json.dumps(tree), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token is None) == (request.param == "has none")
    assert start_token_of(tokenizer) == (0 if request.param == "adds it" else None)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_log_probabilities_are_the_harness_own_whatever_becomes_of_the_start_token(
    folder_by_start_token, tmp_path, monkeypatch
):
    kr_model = KRModel.load(folder_by_start_token)
    task = export(QUESTIONS, tmp_path / "task")
    samples = sums_of(evaluate(folder_by_start_token, [task], monkeypatch, tmp_path / "cache"), "kr_test")
    for number, (question, sums) in enumerate(zip(QUESTIONS, samples, strict=True)):
        context, *rows = encode_question(question, lambda text: encode_without_eos(kr_model.tokenizer, text))
        scored = [score.log_probs[context:].sum() for score in kr_model.scorer.score(rows)]
        assert scored == pytest.approx(sums if number % 2 == 0 else sums[::-1], abs=1e-3)
