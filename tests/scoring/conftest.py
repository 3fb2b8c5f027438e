"""Tiny models with random weights, of architectures whose logits are more than the output of the LM head."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZE = 61
SHAPE = {
    "vocab_size": SIZE,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# A softcap and a logit scale with a visible effect.
OPTIONS = {
    "llama": {},
    "gpt2": {},
    "gemma2": {"final_logit_softcapping": 3.0, "sliding_window": 16},
    "cohere": {"logit_scale": 0.25},
}


def new_network(architecture, **options):
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **{**SHAPE, **OPTIONS[architecture], **options})
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    # Random weights are nearly uniform: larger ones make probabilities that differ.
    network.get_output_embeddings().weight.data.mul_(20)
    return network


def rows_of(*lengths, seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, size, n).astype(np.int32) for n in lengths]


def reference_log_probs(network, row):
    """ln p (T - 1, V) after each token but the last, the row alone in its batch, softmax in float64."""
    with torch.no_grad():
        logits = network(input_ids=torch.tensor(row[None].astype(np.int64))).logits[0, :-1].double()
    return logits.log_softmax(-1).numpy()


def pick(table, row):
    """ln p of each token of `row` but the first, out of `reference_log_probs`."""
    return np.take_along_axis(table, row[1:, None].astype(np.int64), 1)[:, 0]


@pytest.fixture(scope="session", params=list(OPTIONS))
def any_network(request):
    return new_network(request.param)


@pytest.fixture(scope="session")
def network():
    return new_network("llama")


@pytest.fixture(scope="session")
def folder(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    network.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def stories(real_data):
    return real_data / "priors" / "stories260k"
