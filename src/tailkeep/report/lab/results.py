"""A run of the laboratory in Python: its metrics as a table, its report, and curves of a metric.

    import tailkeep
    run = tailkeep.open("runs/demo")
    run.frame().query("metric == 'held_out_nll'")
    run.plot("held_out_nll")

Rule: it reads what the report reads, a pack included.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailkeep.errors import InputError
from tailkeep.optional import require
from tailkeep.report.lab.page import write
from tailkeep.report.lab.run import read_lab_run


@dataclass(frozen=True)
class LabResults:
    """The results of a run at `path`, read anew by each method, so that a run at work can be followed."""

    path: Path

    def frame(self) -> Any:
        """A pandas DataFrame with the columns arm, seed, generation, metric and value, a row per number.

        Raises:
            InputError: a file of the run cannot be read.
            MissingPackageError: pandas is not installed.
        """
        pandas: Any = require("pandas", extra="pandas")
        rows = [
            (entry.arm, entry.seed, entry.generation, metric, value)
            for group in read_lab_run(self.path).groups
            for entry in group.entries
            for metric, value in entry.metrics.items()
        ]
        return pandas.DataFrame(rows, columns=["arm", "seed", "generation", "metric", "value"])

    def report(self) -> Path:
        """Write the report of the run, and return the path of its page.

        Raises:
            InputError: it is a pack, which stays as it is, or a file cannot be read.
            StorageError: the file system refused a write.
        """
        if read_lab_run(self.path).directory.record.packed:
            raise InputError(
                f"{self.path} is a pack, which stays as it is. Use frame and plot, or `tailkeep report`, which prints."
            )
        return write(self.path)

    def plot(self, metric: str) -> Any:
        """Curves of `metric` over the generations as a matplotlib Figure: per arm the mean over seeds, and each seed.

        Raises:
            InputError: no finished generation has the metric; the message names those that there are.
            MissingPackageError: matplotlib is not installed.
        """
        drawing: Any = require("matplotlib.figure", extra="plot")
        groups = read_lab_run(self.path).groups
        if not any(metric in group.names for group in groups):
            names = sorted({name for group in groups for name in group.names})
            raise InputError(f"no generation in {self.path} has the metric {metric!r}. It has {', '.join(names)}.")
        figure = drawing.Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for group in groups:
            for arm in group.arms:
                series = group.series(arm, metric)
                generations = sorted({generation for row in series.values() for generation in row})
                values = [[row[g] for row in series.values() if g in row] for g in generations]
                (line,) = axes.plot(generations, [sum(row) / len(row) for row in values], label=arm)
                for row in series.values():
                    axes.plot(list(row), list(row.values()), ".", color=line.get_color(), alpha=0.4)
        axes.set_xlabel("generation")
        axes.set_ylabel(next(group for group in groups if metric in group.names).catalog.describe(metric).title)
        axes.legend(frameon=False)
        return figure


def open_results(path: Path | str) -> LabResults:
    """The results of the run or pack of the laboratory at `path`.

    Raises:
        InputError: there is no run of the laboratory.
    """
    run = read_lab_run(path)
    if run.directory.record.kind != "lab":
        raise InputError(f"{path} holds a run of kind {run.directory.record.kind!r}. Give a run of `tailkeep lab`.")
    return LabResults(Path(path))
