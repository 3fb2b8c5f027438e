"""The losses by name: each one's options, their ranges and what it needs. A new loss is a class here and its function.

Rule: nothing here imports torch until a weighting is built, so a configuration can be checked without it. A class says
what `attach`, `named_weighting` and an arm of the laboratory accept; the function that it names has the formula.
"""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import Field

from tailkeep.config import Settings, suggest
from tailkeep.errors import ConfigError

if TYPE_CHECKING:
    from tailkeep.losses.weighting import Weighting

Threshold = Annotated[float, Field(gt=0, le=1)]
AutoThreshold = Threshold | Literal["auto"]
"""A number, or in the laboratory one that is set for each generation; that needs `data.calibration`."""
Share = Annotated[float, Field(gt=0, le=1)]
Exponent = Annotated[float, Field(ge=0)]
Window = Annotated[int, Field(ge=1)]
"""A number of micro-batches."""


class LossOptions(Settings):
    """The options of one loss, beside its `name` those of the function that `function` names as module:function."""

    name: str
    function: ClassVar[str]
    truncates: ClassVar[bool] = False
    """Whether it drops high-confidence tokens, so that a kept fraction of 1 means that it did nothing."""
    needs_seed: ClassVar[bool] = False
    """Whether it draws random numbers. In the laboratory they follow the generation's seed."""

    def weighting(self, *, seed: int = 0) -> "Weighting":
        """A new weighting with its own state; `seed` is that of the draws, if there are any.

        Raises:
            ConfigError: a threshold that is still "auto".
        """
        options = {key: getattr(self, key) for key in type(self).model_fields if key != "name"}
        if self.needs_seed:
            options["seed"] = seed
        weighting: Weighting = resolve_name(f"tailkeep.losses.{self.function}")(**options)
        return weighting


class CrossEntropy(LossOptions):
    """Cross-entropy, the baseline."""

    name: Literal["cross_entropy"] = "cross_entropy"
    function = "weighting:cross_entropy"


class Truncated(LossOptions):
    """Truncated cross-entropy (ForTIFAI, arXiv 2509.08972).

    Attributes:
        threshold: tokens of a higher probability carry no loss.
    """

    name: Literal["truncated"] = "truncated"
    threshold: AutoThreshold = 0.99
    function = "truncation:truncated"
    truncates = True


class Dynamic(LossOptions):
    """Truncated at mean + alpha * std of the micro-batches' mean probability (arXiv 2509.08972, published code)."""

    name: Literal["dynamic"] = "dynamic"
    alpha: float
    start: Threshold = 0.99
    window: Annotated[int, Field(ge=2)] = 256
    function = "adaptive:dynamic_truncation"
    truncates = True


class Scheduled(LossOptions):
    """Truncated at a threshold that moves linearly over `steps` micro-batches."""

    name: Literal["scheduled"] = "scheduled"
    start: Threshold
    end: Threshold
    steps: Annotated[int, Field(ge=1)]
    function = "adaptive:scheduled_truncation"
    truncates = True


class TargetKept(LossOptions):
    """Truncated at the threshold that keeps a share `fraction` of the tokens."""

    name: Literal["target_kept"] = "target_kept"
    fraction: Share
    start: Threshold = 0.99
    window: Window = 16
    function = "adaptive:target_kept_fraction"
    truncates = True


class RandomTruncation(LossOptions):
    """The control of a truncation: tokens kept at random.

    Attributes:
        kept_fraction: the share of tokens that carry loss.
    """

    name: Literal["random"] = "random"
    kept_fraction: Share
    function = "weightings:random_truncation"
    needs_seed = True


class RandomMatched(LossOptions):
    """The control of a truncation: at random as many tokens kept as truncation at `threshold` would keep."""

    name: Literal["random_matched"] = "random_matched"
    threshold: AutoThreshold = 0.99
    window: Window = 16
    function = "weightings:random_matched"
    needs_seed = True


class Focal(LossOptions):
    """Focal loss (arXiv 1708.02002).

    Attributes:
        exponent: the loss of a token is multiplied by (1 - p) to this power.
        detach: no gradient through the weights.
    """

    name: Literal["focal"] = "focal"
    exponent: Exponent = 2.0
    detach: bool = False
    function = "weightings:focal"


class MiLe(LossOptions):
    """MiLe (arXiv 2310.19531): weights rise with the prediction's entropy."""

    name: Literal["mile"] = "mile"
    exponent: Exponent = 1.0
    function = "weightings:mile"


class EAFT(LossOptions):
    """EAFT (arXiv 2601.02151): weights are the normalised entropy of the k most likely tokens.

    Attributes:
        k: how many of the most likely tokens the entropy is of.
    """

    name: Literal["eaft"] = "eaft"
    k: Annotated[int, Field(ge=2)] = 20
    function = "weightings:eaft"


class DFT(LossOptions):
    """DFT (arXiv 2508.05629): weighted by p, the opposite direction."""

    name: Literal["dft"] = "dft"
    function = "weightings:dft"


class STM(LossOptions):
    """Selective token masking (arXiv 2501.14315): low-confidence tokens get no loss, the opposite direction.

    Attributes:
        threshold: tokens of a lower probability carry no loss.
    """

    name: Literal["stm"] = "stm"
    threshold: Threshold = 0.4
    function = "weightings:stm"


NamedLoss: TypeAlias = (
    CrossEntropy
    | Truncated
    | Focal
    | MiLe
    | EAFT
    | DFT
    | STM
    | RandomTruncation
    | RandomMatched
    | Dynamic
    | Scheduled
    | TargetKept
)

LOSSES: dict[str, type[LossOptions]] = {kind.model_fields["name"].default: kind for kind in get_args(NamedLoss)}


def named_weighting(name: str, **options: Any) -> "Weighting":
    """A new weighting with its own state, as `named_weighting("truncated", threshold=0.9)`.

    Args:
        name: one of `LOSSES`.
        options: those of its class, and `seed` where it draws random numbers.

    Raises:
        ConfigError: an unknown name or option, one that is missing, or a value that cannot be used.
    """
    if not isinstance(name, str) or name not in LOSSES:
        raise ConfigError(f"the loss {name!r} is unknown.{suggest(str(name), [*LOSSES])}")
    kind = LOSSES[name]
    _check_options(kind, name, options)
    seed = options.pop("seed", 0)
    try:
        # Not validated: the function says more of a value that it cannot use.
        return kind.model_construct(**options).weighting(seed=seed)
    except ConfigError as error:
        raise ConfigError(f"the loss {name!r}: {error}") from None


def _check_options(kind: type[LossOptions], name: str, options: Mapping[str, Any]) -> None:
    fields = {key: field for key, field in kind.model_fields.items() if key != "name"}
    known = [*fields, *(["seed"] if kind.needs_seed else [])]
    for option in options:
        if option not in known:
            raise ConfigError(f"the loss {name!r} has no option {option!r}.{suggest(option, known)}")
    required = [key for key in known if key == "seed" or fields[key].is_required()]
    if missing := [key for key in required if key not in options]:
        raise ConfigError(f"the loss {name!r} needs {' and '.join(missing)}, and was given {[*options] or 'nothing'}.")
