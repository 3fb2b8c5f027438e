"""A real pretrained model on real text: losses, scores and edits are those of plain transformers."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailkeep import edit
from tailkeep.losses import attach, detach
from tailkeep.scoring import CausalLMScorer, Prior

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network(smollm2):
    return AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32, local_files_only=True)


@pytest.fixture(scope="module")
def texts(real_data):
    """Eight paragraphs of WikiText-2."""
    lines = (real_data / "text" / "wikitext2_valid.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if len(line) > 400][:8]


@pytest.fixture(scope="module")
def rows(smollm2, texts):
    tokenizer = AutoTokenizer.from_pretrained(smollm2, local_files_only=True)
    return [np.array(tokenizer(text)["input_ids"], np.int32) for text in texts]


@pytest.fixture(scope="module")
def log_probs(network, rows):
    """ln p of each row's tokens but the first, by transformers alone."""
    with torch.inference_mode():
        ids = [torch.from_numpy(row.astype(np.int64)) for row in rows]
        tables = [network(input_ids=row[None]).logits[0, :-1].log_softmax(-1) for row in ids]
    return [table.gather(1, row[1:, None])[:, 0].numpy() for table, row in zip(tables, ids, strict=True)]


def test_a_loss_that_truncates_nothing_is_the_models_own(network, rows):
    ids = torch.from_numpy(rows[0].astype(np.int64))[None]

    def loss_and_gradient():
        out = network(input_ids=ids, labels=ids)
        return out, torch.autograd.grad(out.loss, network.get_input_embeddings().weight)[0]

    network.train()
    own, own_gradient = loss_and_gradient()
    attach(network, "truncated", threshold=1.0)
    fused, gradient = loss_and_gradient()
    detach(network).eval()
    assert own.logits is not None
    assert fused.logits is None
    assert fused.loss.item() == pytest.approx(own.loss.item(), rel=1e-6)
    assert (gradient - own_gradient).norm() < 1e-5 * own_gradient.norm()


def test_scores_are_the_log_softmax_of_transformers(smollm2, rows, log_probs):
    scorer = CausalLMScorer(Prior(path=smollm2, device="cpu", dtype="float32"))
    for scored, expected in zip(scorer.score(rows), log_probs, strict=True):
        assert np.abs(scored.log_probs[1:] - expected).max() < 1e-3


def test_an_estimate_flags_the_high_confidence_tokens(smollm2, texts, log_probs, tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    config = edit.load({"prior": {"path": str(smollm2), "device": "cpu", "dtype": "float32"}})
    counts = edit.estimate(config, tmp_path / "in.jsonl", limit=len(texts)).outcome.counts
    confident = np.concatenate(log_probs) >= np.log(np.float32(0.99))
    assert counts["tokens"] == len(confident)
    assert counts["flagged"] == confident.sum()
    assert 0.02 < counts["flagged"] / counts["tokens"] < 0.5
