"""The eager losses, for which torch.compile breaks its graph once instead of entering them.

Rule: only a graph imports this, since torch.compiler takes a second to load and brings triton.
"""

from collections.abc import Callable
from typing import Any

import torch

from tailkeep.losses.eager import eager_cross_entropy, eager_token_nll

untraced_token_nll: Callable[..., Any] = torch.compiler.disable(eager_token_nll)  # type: ignore[no-untyped-call]
untraced_cross_entropy: Callable[..., Any] = torch.compiler.disable(eager_cross_entropy)  # type: ignore[no-untyped-call]
