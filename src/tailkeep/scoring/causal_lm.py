"""The scorer for any causal language model of transformers.

Rule: what it returns is a function of the rows handed in and of what `identity` names.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.errors import ConfigError
from tailkeep.runs import hash_path
from tailkeep.scoring.halves import Halves
from tailkeep.scoring.log_probs import score_rows
from tailkeep.scoring.prior import Prior, load_network, local_folder
from tailkeep.scoring.protocol import Draw, Judge, Scored
from tailkeep.scoring.source import CODE, TOKENIZER, WEIGHTS


class CausalLMScorer:
    """See `Scorer`. `window` is the most tokens that a forward pass reads of a document at once.

    Raises:
        InputError: a prior that cannot be read or used.
        ConfigError: a device that is not there, or a window that the model or the batch has no room for.
    """

    def __init__(self, prior: Prior) -> None:
        self.folder: Path = local_folder(prior)
        self.name = str(prior.path) if prior.revision is None else f"{prior.path}@{prior.revision}"
        self._prior = prior
        self._model = Halves(load_network(prior, self.folder))
        self.vocab_size = self._model.vocab_size
        self.window = _window_of(prior, self._model.positions)

    def identity(self) -> dict[str, Any]:
        """The sha256 of the files that decide a score, by name, and the choices that do; the folder's name is free."""
        network = self._model.network
        patterns = ("config.json", *WEIGHTS, *TOKENIZER, *(CODE if self._prior.trust_remote_code else ()))
        files = sorted({file for pattern in patterns for file in self.folder.glob(pattern) if file.is_file()})
        return {
            "files": {file.name: hash_path(file) for file in files},
            "dtype": str(network.dtype).removeprefix("torch."),
            "device": self._model.device.type,
            "attention": str(getattr(network.config, "_attn_implementation", None)),
            "batch_tokens": self._prior.batch_tokens,
            "window": self.window,
        }

    def score(
        self, rows: Iterable[NDArray[np.int32]], judge: Judge | None = None, draw: Draw | None = None
    ) -> Iterator[Scored]:
        """See `Scorer.score`."""
        return score_rows(self._model, rows, judge, draw, batch_tokens=self._prior.batch_tokens, window=self.window)


def _window_of(prior: Prior, positions: int | None) -> int:
    room = min(prior.batch_tokens, positions or prior.batch_tokens)
    if prior.window is None:
        return room
    if positions is not None and prior.window > positions:
        raise ConfigError(f"prior.window: {prior.window}, and the model has {positions} positions. Lower it to them.")
    if prior.window > prior.batch_tokens:
        raise ConfigError(
            f"prior.window: {prior.window} is more than prior.batch_tokens {prior.batch_tokens}. Lower the window."
        )
    return prior.window
