"""The configuration of a forecast.

    max_n: 2
    generations: 10
    tail: {max_count: 1, keep: 0.5}

Rule: every key that can change a figure is in the fingerprint. `on_error` and `memory_mb` are not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tailkeep.config import Settings, load_tree, validate
from tailkeep.data.corpus import JobConfig, OnError
from tailkeep.metrics import Migration

_DECODER_KINDS = {
    **dict.fromkeys(("sample", "sampling", "temperature"), "sampled"),
    **dict.fromkeys(("nucleus", "top-p", "top_p", "top-k", "top_k", "min-p", "min_p"), "truncated"),
    **dict.fromkeys(("greedy", "beam"), "deterministic"),
}

Decoder = Annotated[
    Literal["sampled", "truncated", "deterministic", "unknown"],
    BeforeValidator(lambda name: _DECODER_KINDS.get(name, name) if isinstance(name, str) else name),
]
"""sampled: at any temperature; truncated: top-p, top-k or min-p; deterministic: greedy or beam search. A usual name of
one means its kind: `nucleus` is `truncated`."""

Share = Annotated[float, Field(gt=0, lt=1)]


class TailConfig(Settings):
    """The tail that must stay: items that occur at most `max_count` times, and the share of them to `keep`."""

    max_count: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    keep: Share = 0.5


class ForecastConfig(JobConfig):
    """A forecast.

    Attributes:
        max_n: the longest n-grams of words that are counted; every length up to it is forecast.
        generations: how many rounds ahead.
        real_shares: the shares of real data of the regime `mix`.
        tail: the tail for which the required real share is computed.
        decoder: how the synthetic texts were decoded, which decides whether the forecast was validated for them.
        decoders: the same by the name of a text, before `decoder`.
        draws: how many draws an interval is made of.
        seed: of the draws.
        num_threads: CPU threads per worker.
        row_groups: split a parquet file into shards of so many row groups, for more workers than files.
        memory_mb: memory for counts per worker, in MB. Counts beyond it are sorted on disk.
    """

    not_fingerprinted = frozenset({"on_error", "memory_mb"})

    max_n: Annotated[int, Field(ge=1, le=3)] = 1
    generations: Annotated[int, Field(ge=1, le=1000)] = 10
    real_shares: tuple[Share, ...] = (0.05, 0.1, 0.2, 0.5)
    tail: TailConfig = TailConfig()
    decoder: Decoder = "unknown"
    decoders: dict[str, Decoder] = Field(default_factory=dict)
    draws: Annotated[int, Field(ge=20, le=10_000)] = 200
    seed: Annotated[int, Field(ge=0)] = 0
    num_threads: Annotated[int, Field(ge=1)] = 1
    row_groups: Annotated[int, Field(ge=1)] | None = None
    on_error: OnError = "stop"
    memory_mb: Annotated[int, Field(ge=16)] = 1024

    @model_validator(mode="after")
    def _reads_text(self) -> Self:
        for key in ("token_field", "prompt_fields"):
            if getattr(self.layout, key):
                raise ValueError(f"layout.{key} has no effect in a forecast, which counts words of text_fields")
        return self

    @field_validator("real_shares")
    @classmethod
    def _names_each_once(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(shares)) < len(shares):
            raise ValueError("each share must stand once")
        return shares

    def decoder_of(self, name: str) -> Decoder:
        """How the text called `name` was decoded."""
        return self.decoders.get(name, self.decoder)

    @property
    def migrations(self) -> list[Migration]:
        """The regimes to forecast; `regenerate` with ForTIFAI's six parts."""
        mixes = [Migration("mix", share) for share in self.real_shares]
        return [
            Migration(),
            *mixes,
            Migration("accumulate"),
            Migration("accumulate_subsample"),
            Migration("regenerate", fractions=6),
        ]


def load(
    source: Path | Mapping[str, Any] | None = None,
    *,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> ForecastConfig:
    """Load the configuration from a YAML file or a mapping, with overrides and options on top.

    Raises:
        ConfigError: a key is unknown or a value invalid.
        InputError: the file cannot be read.
    """
    tree, name = load_tree(source, overrides=overrides, options=options)
    return validate(ForecastConfig, tree, source=name)
