"""The choice of a prior, checked where torch is at hand. Rule: an audit without one never comes here."""

from collections.abc import Mapping
from typing import Any

from tailkeep.config import validate
from tailkeep.errors import ConfigError
from tailkeep.optional import require


def checked_prior(tree: Mapping[str, Any]) -> Any:
    """The `Prior` that `tree` describes.

    Raises:
        ConfigError: its keys are wrong.
    """
    require("transformers", extra="hf")
    from tailkeep.scoring import Prior

    if not tree.get("path"):
        raise ConfigError("the key 'prior.path' is missing. Give --prior PATH, or prior: {path: ...} in the file.")
    return validate(Prior, dict(tree), source="prior")
