"""The laboratory: train generation after generation on machine-written data, and measure what is lost.

from pathlib import Path
from tailkeep import lab, report
lab.run("gaussian", "out")
report.write(Path("out"))
"""

from tailkeep.lab.config import LabConfig, dump, load
from tailkeep.lab.embedded import write_world
from tailkeep.lab.experiment import run
from tailkeep.lab.protocols import Data, Learner, Measurement, Model, Subject
from tailkeep.lab.recipes import Recipe, find_recipe, list_recipes
from tailkeep.lab.recursion import Event
from tailkeep.lab.subjects import default_workers

__all__ = [
    "Data",
    "Event",
    "LabConfig",
    "Learner",
    "Measurement",
    "Model",
    "Recipe",
    "Subject",
    "default_workers",
    "dump",
    "find_recipe",
    "list_recipes",
    "load",
    "run",
    "write_world",
]
