"""Forecasts: what of the tail of a corpus is left after generations of training on synthetic text."""

from tailkeep.data.corpus import dump_config as dump
from tailkeep.forecast.config import ForecastConfig, load
from tailkeep.forecast.counted_chains import count_chain
from tailkeep.forecast.run import run
from tailkeep.forecast.summary import ForecastOutcome
from tailkeep.forecast.validate import check_chain_config, run_chains

__all__ = [
    "ForecastConfig",
    "ForecastOutcome",
    "check_chain_config",
    "count_chain",
    "dump",
    "load",
    "run",
    "run_chains",
]
