"""A run in Python: `tailkeep.open`."""

import pytest

import tailkeep
from tailkeep.errors import InputError, MissingPackageError
from tailkeep.runs import RunDirectory
from tailkeep.runs.pack import write_pack
from tests.report.built_runs import language_run


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A language model's run of four arms and two seeds, of which one chain is short of its last generation."""
    return language_run(tmp_path_factory.mktemp("results") / "run", seeds=(0, 1), generations=3)


def test_the_frame_has_a_row_per_number(path):
    pandas = pytest.importorskip("pandas")
    frame = tailkeep.open(path).frame()
    assert list(frame.columns) == ["arm", "seed", "generation", "metric", "value"]
    cells = RunDirectory.open(path).generation_dirs()
    assert len(frame) == sum(len(cell.metrics()["metrics"]) for cell in cells)
    one = frame.query("arm == 'truncated-0.99' and seed == 1 and generation == 2 and metric == 'held_out_nll'")
    cell = RunDirectory.open(path).generation_dir("truncated-0.99", 1, 2)
    assert one["value"].tolist() == [cell.metrics()["metrics"]["held_out_nll"]]
    assert pandas.api.types.is_float_dtype(frame["value"])


def test_a_pack_has_the_same_frame_and_no_report(path, tmp_path):
    pytest.importorskip("pandas")
    pack = tailkeep.open(write_pack(path, tmp_path / "pack").path)
    assert pack.frame().equals(tailkeep.open(path).frame())
    with pytest.raises(InputError, match="is a pack, which stays as it is"):
        pack.report()


def test_the_report_is_written_where_the_command_writes_it(path):
    assert tailkeep.open(str(path)).report() == path / "report.html"
    assert (path / "report.html").is_file()


def test_a_plot_has_a_line_per_arm_and_points_per_seed(path):
    (axes,) = tailkeep.open(path).plot("held_out_nll").axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["cross-entropy", "truncated-0.90", "truncated-0.99", "accumulate"]
    assert len(axes.lines) == 4 * (1 + 2)
    # The last generation of the unfinished seed is missing; the mean is that of the other.
    mean, *points = axes.lines[-3:]
    assert list(mean.get_xdata()) == [0, 1, 2]
    assert mean.get_ydata()[2] == points[0].get_ydata()[2]
    assert list(points[1].get_xdata()) == [0, 1]


def test_an_unknown_metric_is_refused_with_those_that_there_are(path):
    with pytest.raises(InputError, match=r"the metric 'nll'. It has .*held_out_nll"):
        tailkeep.open(path).plot("nll")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no run\.json"):
        tailkeep.open(tmp_path)


def test_pandas_is_named_with_its_extra_where_it_is_missing(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r"pandas is not installed.*tailkeep\[pandas\]"):
        tailkeep.open(path).frame()


def test_the_package_has_no_other_lazy_name():
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        tailkeep.opne  # noqa: B018
