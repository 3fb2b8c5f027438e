import csv
import math

import pytest

from tailkeep.errors import StorageError
from tailkeep.report import write
from tailkeep.runs import Storage
from tests.report.built_runs import finish, new_run


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def small(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0, 1), generations=2) as run:
        for seed in (0, 1):
            for generation in (0, 1):
                metrics = {"kr_accuracy": 0.9 - 0.2 * generation, 'odd, "name"': math.nan}
                finish(run.generation_dir("a", seed, generation), metrics, learner="causal_lm")
    return tmp_path / "r"


def test_every_number_of_every_cell_is_in_the_table_in_full(small):
    write(small)
    table = rows(small / "tables" / "metrics.csv")
    assert len(table) == 8
    assert {row["metric"] for row in table} == {"kr_accuracy", 'odd, "name"'}
    assert {row["value"] for row in table} == {"0.9", repr(0.9 - 0.2), ""}


def test_the_summary_table_has_the_final_value_the_slope_and_the_failure(small):
    write(small)
    (row,) = rows(small / "tables" / "summary.csv")
    assert float(row["final"]) == pytest.approx(0.7)
    assert float(row["slope"]) == pytest.approx(-0.2)
    failure, relative = rows(small / "tables" / "failures.csv")
    assert float(failure["time"]) == pytest.approx(0.75)
    assert float(failure["time_low"]) == float(failure["time_high"]) == pytest.approx(0.75)
    assert relative["rule"] == "KR-test accuracy, half of its margin over chance lost"
    assert (failure["seeds_failed"], failure["censored"]) == ("2", "0")


def test_a_run_may_be_named_by_a_string(small):
    assert write(str(small)) == small / "report.html"


def test_a_figure_of_an_earlier_report_does_not_stay(small):
    write(small)
    (small / "figures" / "old.svg").write_text("old")
    assert write(small) == small / "report.html"
    assert not (small / "figures" / "old.svg").exists()
    assert (small / "figures" / "causal_lm-kr_accuracy.svg").exists()


def test_a_report_that_cannot_be_written_leaves_the_old_page(small):
    class Full(Storage):
        def _write(self, path, content):
            path.write_bytes(content[:100])
            raise OSError(28, "No space left on device")

    before = write(small).read_bytes()
    with pytest.raises(StorageError, match="No space left"):
        write(small, storage=Full())
    assert (small / "report.html").read_bytes() == before
