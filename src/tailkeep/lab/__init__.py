"""The laboratory: train generation after generation on model-generated data, and measure what is lost.

from pathlib import Path
from tailkeep import lab, report
lab.run("gaussian", "out")
report.write(Path("out"))
"""

from tailkeep.lab.config import LabConfig, Recipe, dump, find_recipe, list_recipes, load, refuse_code
from tailkeep.lab.estimate import LabEstimate, estimate
from tailkeep.lab.learners import default_workers, num_gpus
from tailkeep.lab.loop import Event, cell_progress
from tailkeep.lab.make_world import write_world
from tailkeep.lab.protocols import Data, Experiment, Learner, Measurement, Model
from tailkeep.lab.run import run
from tailkeep.runs.metric import FailureLimit, Metric

__all__ = [
    "Data",
    "Event",
    "Experiment",
    "FailureLimit",
    "LabConfig",
    "LabEstimate",
    "Learner",
    "Measurement",
    "Metric",
    "Model",
    "Recipe",
    "cell_progress",
    "default_workers",
    "dump",
    "estimate",
    "find_recipe",
    "list_recipes",
    "load",
    "num_gpus",
    "refuse_code",
    "run",
    "write_world",
]
