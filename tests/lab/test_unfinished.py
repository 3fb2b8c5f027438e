import pytest

from tailkeep.lab import phase
from tailkeep.lab.phase import (
    PhasePlace,
    Spacing,
    current_phase,
    enter_part,
    enter_phase,
    remove_unfinished,
    unfinished_folder,
)
from tailkeep.runs import GenerationDir


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""
    now = [100.0]
    monkeypatch.setattr(phase.time, "monotonic", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def times_of_writing(clock, *, cost, guess, until):
    """When a loop of one-second steps writes, if each writing takes `cost` seconds."""
    spacing, elapsed, times = Spacing(guess), 0, []
    while elapsed < until:
        clock(1)
        elapsed += 1
        if spacing.is_due:
            with spacing.measure():
                clock(cost)
            elapsed += cost
            times.append(elapsed - cost)
    return times


@pytest.mark.parametrize(("cost", "guess"), [(5, 5), (5, 1), (20, 10), (2, 60)])
def test_writing_takes_a_twentieth_of_the_time_at_most_once_its_cost_is_known(cost, guess, clock):
    times = times_of_writing(clock, cost=cost, guess=guess, until=5000)
    assert times
    for count, time in enumerate(times[1:], start=2):
        assert count * cost <= (time + cost) / 20 + 1
    # It is no rarer either: a kill loses little.
    assert len(times) * cost >= 5000 / 20 - 2 * max(cost, guess)


def test_the_first_writing_waits_for_20_times_its_guessed_cost(clock):
    assert times_of_writing(clock, cost=5, guess=5, until=1000)[0] == 100


def test_short_work_is_never_written(clock):
    assert times_of_writing(clock, cost=0, guess=0.001, until=29) == []
    assert times_of_writing(clock, cost=0, guess=0.001, until=100) == [30, 60, 90]


def test_each_phase_and_part_has_a_folder_and_all_go_at_once(tmp_path):
    generation_dir = GenerationDir("a", 0, 1, tmp_path / "1")
    with enter_phase(PhasePlace(generation_dir, "train")):
        folders = [unfinished_folder(current_phase())]
        with enter_part("second"):
            folders.append(unfinished_folder(current_phase()))
        assert unfinished_folder(current_phase()) == folders[0]
    assert [folder.relative_to(tmp_path / "1").as_posix() for folder in folders] == [
        "unfinished/train/model",
        "unfinished/train/second",
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    remove_unfinished(generation_dir)
    assert list((tmp_path / "1").iterdir()) == []
    assert current_phase() is None
