"""Rule: nothing is downloaded, and every test trains real steps of a real trainer."""

import copy

import pytest
import torch

from tests.integrations import tiny


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny matrices are slower on two threads, and sums are the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights():
    return tiny.new_model()


@pytest.fixture(scope="session")
def rows(weights):
    return tiny.rows(weights, 64)


@pytest.fixture
def model(weights):
    return copy.deepcopy(weights)


@pytest.fixture
def twin(weights):
    return copy.deepcopy(weights)
