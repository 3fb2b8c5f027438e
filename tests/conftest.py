"""What holds for every test: hypothesis gives no test a deadline, since a busy machine is no fault of the code."""

import gc

import pytest
from hypothesis import settings

settings.register_profile("tailkeep", deadline=None)
settings.load_profile("tailkeep")


@pytest.fixture(autouse=True, scope="module")
def _what_is_imported_is_no_garbage():
    """A Trainer collects garbage as it starts and ends, and would look at all that every other test has imported."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give all of it back to the collector, so that the interpreter can end as ever."""
    gc.unfreeze()
