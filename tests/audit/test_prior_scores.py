"""Scores under a prior agree with the model in float64, and the figures with the scores."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailkeep.audit import run
from tests.audit.conftest import QUICK, left_by, write_jsonl
from tests.lab.causal_lm.tiny import STORIES

FAST = {"testing": QUICK}


@pytest.fixture(scope="module")
def scored(prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    input_path = write_jsonl(folder / "a.jsonl", [f"{text} {STORIES[0]}" for text in STORIES[:20]])
    reference_path = write_jsonl(folder / "b.jsonl", [f"{text} {STORIES[20]}" for text in STORIES[20:40]])
    config = {**FAST, "prior": {"path": str(prior), "batch_tokens": 256}}
    return run(config, input_path, folder / "out", reference=reference_path), folder, config


def reference_log_probs(prior, text):
    model = AutoModelForCausalLM.from_pretrained(prior).double()
    ids = AutoTokenizer.from_pretrained(prior)(text, return_tensors="pt", split_special_tokens=True)["input_ids"]
    with torch.inference_mode():
        logits = model(ids).logits.log_softmax(-1)
    return logits[0, :-1].gather(1, ids[0, 1:, None])[:, 0].numpy()


def test_the_scores_are_those_of_the_model_in_double_precision(scored, prior):
    _, folder, _ = scored
    rows = pq.read_table(folder / "out" / "scores" / "input" / "a.jsonl.parquet").to_pylist()
    texts = [json.loads(line)["text"] for line in (folder / "a.jsonl").read_text().splitlines()]
    assert [row["document_id"] for row in rows] == [f"d{number}" for number in range(20)]
    for row, text in list(zip(rows, texts, strict=True))[:5]:
        expected = reference_log_probs(prior, text)
        assert row["tokens"] == len(expected)
        assert row["log_prob"] == pytest.approx(float(expected.sum()), rel=1e-4)
        assert row["over_0.9"] == int((expected >= math.log(0.9)).sum())


def test_the_figures_add_up_the_scores(scored):
    outcome, folder, _ = scored
    rows = pq.read_table(folder / "out" / "scores" / "input" / "a.jsonl.parquet").to_pylist()
    figures = outcome.summary["input"]["prior"]
    tokens = sum(row["tokens"] for row in rows)
    assert figures["tokens"] == tokens
    assert figures["surprise"] == pytest.approx(-sum(row["log_prob"] for row in rows) / tokens, rel=1e-6)
    assert figures["perplexity"] == pytest.approx(math.exp(figures["surprise"]))
    assert figures["toedit_would_flag"] == sum(row["over_0.99"] for row in rows) / tokens
    assert figures["document_perplexity"]["p5"] <= figures["document_perplexity"]["p95"]
    histogram = [line.split(",") for line in (folder / "out/tables/probabilities.csv").read_text().splitlines()[1:]]
    assert sum(int(row[3]) for row in histogram if row[0] == "input") == tokens
    assert {test["name"] for test in outcome.summary["comparison"]["tests"]} >= {
        "prior: surprise", "prior: spread of surprise", "prior: share over 0.9", "prior: share over 0.99",
        "prior: JS divergence of probabilities",
    }  # fmt: skip


@pytest.mark.slow
def test_workers_leave_the_bytes_of_one(scored, tmp_path):
    _, folder, config = scored
    run(config, folder / "a.jsonl", tmp_path, reference=folder / "b.jsonl", workers=2)
    assert left_by(tmp_path) == left_by(folder / "out")


def test_the_probability_that_is_not_a_number_stops_the_run(scored, monkeypatch):
    from tailkeep.audit.prior_scores import PriorScorer
    from tailkeep.errors import InputError
    from tailkeep.scoring import ScoredDocument

    _, _, config = scored
    scorer = PriorScorer(config["prior"])
    none = np.zeros(0, np.int64)
    monkeypatch.setattr(
        scorer._scorer,
        "score",
        lambda rows: (ScoredDocument(np.full(len(row), np.nan), none, none, none) for row in rows),
    )
    with pytest.raises(InputError, match="not a number"):
        list(scorer.log_probs(["Ann saw a cat."]))
