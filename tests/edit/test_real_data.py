"""Real text under a real prior: stories that it knows, cut at the separator that their file has."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailkeep.edit import run

SEPARATOR = "<|endoftext|>"


@pytest.mark.slow
def test_tinystories_under_their_own_model(real_data, tmp_path):
    prior, path = real_data / "priors" / "stories260k", real_data / "text" / "tinystories.txt"
    config = {"prior": {"path": str(prior)}, "layout": {"document_separator": SEPARATOR}}
    outcome = run(config, path, tmp_path / "out")
    counts = outcome.counts
    flagged, tokens = flagged_by_a_plain_pass(prior, path)
    assert counts["tokens"] == tokens
    assert abs(counts["flagged"] - flagged) <= 2
    # What is flagged mostly stays itself: its mean p is above 0.99.
    assert 0 < counts["changed"] < 0.01 * counts["flagged"]
    assert counts["documents"] == counts["written"] == len(path.read_text().split(SEPARATOR))
    old, new = path.read_bytes().split(SEPARATOR.encode()), documents(tmp_path / "out", path.name)
    assert sum(one != other for one, other in zip(old, new, strict=True)) == counts["edited"]
    edits = (tmp_path / "out" / "edits" / f"{path.name}.jsonl").read_text().splitlines()
    assert len(edits) == counts["changed"]
    assert all(json.loads(edit)["old_p"] >= 0.99 for edit in edits)


def documents(out, name):
    return (out / "documents" / name).read_bytes().split(SEPARATOR.encode())


def flagged_by_a_plain_pass(prior, path):
    """How many tokens of how many are at or above p = .99, of documents that fit the model, one by one, in windows."""
    tokenizer, network = AutoTokenizer.from_pretrained(prior), AutoModelForCausalLM.from_pretrained(prior).eval()
    size = network.config.max_position_embeddings
    flagged = tokens = 0
    for text in path.read_text().split(SEPARATOR):
        ids = torch.tensor(tokenizer(text.strip(), verbose=False)["input_ids"])
        first, start = 1, 0
        while first < len(ids):
            window = ids[None, start : start + size]
            with torch.no_grad():
                table = network(input_ids=window).logits[0, :-1].log_softmax(-1)
            log_probs = table.gather(1, window[0, 1:, None])[first - start - 1 :, 0]
            flagged, tokens = flagged + int((log_probs >= math.log(0.99)).sum()), tokens + len(log_probs)
            first = start + window.shape[1]
            start = first - size // 2
    return flagged, tokens
