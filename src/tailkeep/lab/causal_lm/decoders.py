"""How a language model's tokens are chosen when it writes: the decoders without a state."""

from typing import Annotated, Literal

from pydantic import Field

from tailkeep.config import Settings


class Greedy(Settings):
    """The most likely token."""

    name: Literal["greedy"]
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0


class Beam(Settings):
    """Beam search; the published ForTIFAI decoder is five beams with repetition penalty 3."""

    name: Literal["beam"]
    beams: Annotated[int, Field(ge=2)] = 5
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0


class Sampling(Settings):
    """Random draws: from the whole distribution unless a cut is given."""

    name: Literal["sample"]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    min_p: Annotated[float, Field(gt=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0


FixedDecoder = Greedy | Beam | Sampling
