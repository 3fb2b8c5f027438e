"""What a learner needs to know of what it draws: how it lies in numbers of about unit size, and how it is measured."""

from typing import Any, Protocol

from torch import Tensor

from tailkeep.lab.protocols import Measurement


class Space(Protocol):
    """Points or images. The scale is that of the real training data, the same in all generations."""

    @property
    def real(self) -> Any:
        """The real training data."""
        ...

    @property
    def held_out(self) -> Any:
        """Real data to measure by."""
        ...

    @property
    def dimension(self) -> int:
        """How many numbers an example has."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether every number lies in -1..1."""
        ...

    @property
    def draws(self) -> int:
        """How many examples of a model are measured."""
        ...

    def encode(self, data: Any) -> Tensor:
        """`data` as (n, dimension), float32."""
        ...

    def decode(self, numbers: Tensor) -> Any:
        """(n, dimension) numbers as data."""
        ...

    def measure(self, drawn: Any) -> Measurement:
        """`drawn` against the held-out data."""
        ...
