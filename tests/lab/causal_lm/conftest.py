"""A language model small enough for a second: two layers of width 16 and a tokenizer trained on forty sentences.

Rule: nothing is downloaded. Tests that want a real model and real text ask for `real_data`, a folder named by the
environment variable TAILKEEP_DATA, and skip without it.
"""

import copy
import random

import numpy as np
import pytest
import torch

from tailkeep.lab.causal_lm.config import Scratch
from tailkeep.lab.causal_lm.model import new_network
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, train_tokenizer
from tailkeep.lab.causal_lm.tokens import TokenData
from tests.lab.causal_lm.tiny import SHAPE, STORIES


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As in a run: tiny matrices are slower on two threads, and sums are the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def hf_tokenizer():
    return train_tokenizer(STORIES, vocab_size=300)


@pytest.fixture(scope="session")
def tokenizer(hf_tokenizer):
    return DocumentTokenizer(hf_tokenizer, append_eos=True)


@pytest.fixture(scope="session")
def weights(tokenizer):
    """A tiny Llama whose next tokens are far from uniform; take a copy (`network`) to change it."""
    network = new_network(Scratch(name="scratch", type="llama", config=SHAPE), tokenizer, seed=0)
    with torch.no_grad():
        network.lm_head.weight.mul_(30)
    return network.eval()


@pytest.fixture
def network(weights):
    return copy.deepcopy(weights)


@pytest.fixture(scope="session")
def stories(tokenizer):
    return TokenData.from_documents([tokenizer.encode(text) for text in STORIES], tokenizer)


@pytest.fixture(scope="session")
def model_folder(weights, tokenizer, tmp_path_factory):
    """A Hugging Face folder of the tiny model, as a user would have it."""
    folder = tmp_path_factory.mktemp("tiny-model")
    weights.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def generators():
    """Check that a test leaves every global random generator as it was."""
    before = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state().clone()
    yield
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.random.get_rng_state(), before[2])
