"""A fixed number of threads for every numerical library, since sums differ with the number of threads.

Rule: only what is loaded can be limited, so what a run computes with is imported first.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let each of BLAS, OpenMP and torch that is loaded by now use `threads` threads inside."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(threads):
        if torch:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)
