"""The last line of a test session: how many tests were skipped, and without what."""

from tests.conftest import describe_skips


def test_skips_are_counted_by_what_was_missing():
    reasons = [
        "Skipped: TAILKEEP_DATA names no folder with a real model",
        "Skipped: needs Debian's chromium; install it with apt-get install chromium",
        "Skipped: TAILKEEP_DATA names no folder with real text and a real model",
        "Skipped: TAILKEEP_MODELS names no folder with smollm2-135m; examples/fetch_models.py makes it",
        "Skipped: no CUDA device here: torch.cuda.is_available() is False",
        "Skipped: could not import 'sklearn': No module named 'sklearn'",
        "Skipped: this machine has a GPU",
    ]
    assert describe_skips(reasons) == (
        "skipped tests: 2 without TAILKEEP_DATA, 1 without TAILKEEP_MODELS, 1 without chromium, 1 without a GPU, "
        "1 without a package, 1 for other reasons (pytest -rs lists them)"
    )


def test_a_session_that_skips_nothing_says_so():
    assert describe_skips([]) == "skipped tests: none"
