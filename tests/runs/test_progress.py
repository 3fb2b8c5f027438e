import io
import itertools
import sys
from contextlib import contextmanager

import pytest
from rich.console import Console

from tailkeep.lab import Event, cell_progress
from tailkeep.runs import Progress, ProgressPrinter, progress, track_loop
from tailkeep.runs.progress import format_seconds, show_progress, watch_loops


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move: clock(seconds)."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


@contextmanager
def show_cells(total):
    with show_progress() as show:
        yield cell_progress(show, total)


def finished(generation, arm="baseline", seed=0):
    return Event(arm, seed, generation, None)


def test_off_a_terminal_a_finished_generation_is_a_plain_line_on_stderr(clock, capsys):
    with show_cells(4) as observe:
        clock(10)
        observe(finished(0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "1/4 cells, 10 s, about 30 s left (baseline seed 0 generation 0)\n"


def test_phases_print_no_line_of_their_own(clock, capsys):
    with show_cells(2) as observe:
        for phase in ("generate", "train", "sample", "measure"):
            clock(10)
            observe(Event("baseline", 0, 0, phase))
    assert capsys.readouterr().err == ""


def test_lines_are_seconds_apart_but_the_last_is_always_printed(clock, capsys):
    with show_cells(100) as observe:
        for generation in range(100):
            clock(0.25)
            observe(finished(generation))
    lines = capsys.readouterr().err.splitlines()
    assert 4 <= len(lines) <= 6
    assert lines[-1] == "100/100 cells, 25 s, about 0 s left (baseline seed 0 generation 99)"


def test_what_an_earlier_run_has_done_does_not_count_as_fast_work(clock, capsys):
    with show_cells(4) as observe:
        observe(Event("baseline", 0, 0, None, resumed=True))
        observe(Event("baseline", 0, 1, None, resumed=True))
        clock(10)
        observe(finished(2))
    assert capsys.readouterr().err == "3/4 cells, 10 s, about 10 s left (baseline seed 0 generation 2)\n"


def test_a_run_that_was_finished_before_says_so(clock, capsys):
    with show_cells(1) as observe:
        observe(Event("baseline", 0, 0, None, resumed=True))
    assert capsys.readouterr().err == "1 of 1 cells were finished before\n"


REAL_CONSOLE = Console


def step(done, *, arm="baseline", total=120, unit="steps", loss=3.2139, resumed=0):
    amount = 100 * (done - resumed)
    return Event(arm, 0, 1, "train", progress=Progress(done, total, unit, resumed, amount, "tokens", loss))


def test_a_loop_inside_a_cell_is_a_line_that_says_loss_speed_and_time_left(clock, capsys):
    with show_cells(4) as observe:
        observe(step(0))
        clock(20)
        observe(step(40))
    expected = "40/120 steps, loss 3.214, 200 tokens/s, 20 s, about 40 s left (baseline seed 0 generation 1 train)\n"
    assert capsys.readouterr().err == expected


def test_steps_of_an_earlier_run_are_no_fast_work(clock, capsys):
    with show_cells(4) as observe:
        observe(step(40, resumed=40))
        clock(20)
        observe(step(60, resumed=40))
    assert "60/120 steps, loss 3.214, 100 tokens/s, 20 s, about 60 s left" in capsys.readouterr().err


def test_lines_of_each_chain_are_seconds_apart(clock, capsys):
    with show_cells(4) as observe:
        for done in range(61):
            observe(step(done))
            observe(step(done, arm="truncated"))
            clock(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.count("truncated") for line in lines] == [0, 1] * (len(lines) // 2)
    assert len(lines) == 24


def test_another_loop_of_the_same_chain_starts_its_own_clock(clock, capsys):
    with show_cells(4) as observe:
        observe(step(0))
        clock(100)
        observe(step(0, unit="texts", total=10, loss=None))
        clock(20)
        observe(step(5, unit="texts", total=10, loss=None))
    assert "5/10 texts, 25 tokens/s, 20 s, about 20 s left" in capsys.readouterr().err


def test_shards_are_printed_by_the_same_printer(clock, capsys):
    show = ProgressPrinter(progress.time.monotonic)
    show(Progress(2, 4, "shards", 2, 0, "tokens"))
    clock(10)
    show(Progress(3, 4, "shards", 2, 5000, "tokens"))
    clock(10)
    show(Progress(4, 4, "shards", 2, 12000, "tokens"))
    assert capsys.readouterr().err.splitlines() == [
        "2 of 4 shards were finished before",
        "3/4 shards, 5,000 tokens, 500 tokens/s, 10 s, about 10 s left",
        "4/4 shards, 12,000 tokens, 600 tokens/s, 20 s, about 0 s left",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (599, "599 s"), (600, "10 min"), (9000, "2.5 h")])
def test_long_times_are_minutes_and_hours(seconds, words):
    assert format_seconds(seconds) == words


def test_a_loop_is_seen_by_the_watcher_around_it_and_by_no_other():
    seen = []
    track_loop(2, "steps").advance()
    with watch_loops(seen.append):
        loop = track_loop(2, "steps", resumed=1)
        loop.advance(amount=7, loss=0.5)
    assert seen == [Progress(1, 2, "steps", 1, 0, "tokens"), Progress(2, 2, "steps", 1, 7, "tokens", 0.5)]
    assert not loop.enough


def test_a_watcher_ends_a_loop_of_which_it_has_seen_enough():
    with watch_loops(lambda progress: progress.done >= 2):
        loop = track_loop(5, "steps")
        loop.advance()
        assert not loop.enough
        loop.advance()
        assert loop.enough


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_there_is_a_bar_that_says_what_is_at_work(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr("rich.console.Console", lambda **_: REAL_CONSOLE(file=shown, force_terminal=True, width=120))
    with show_cells(2) as observe:
        for generation, phase in itertools.product(range(2), ("train", "measure", None)):
            observe(Event("[bold]odd[/bold]", 3, generation, phase))
    text = shown.getvalue()
    assert "[bold]odd[/bold] seed 3 generation 1" in text
    assert "2/2" in text


def test_a_terminal_has_a_bar_for_each_chain_at_work(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr("rich.console.Console", lambda **_: REAL_CONSOLE(file=shown, force_terminal=True, width=150))
    with show_cells(4) as observe:
        for done in (0, 60):
            observe(step(done))
            observe(step(done, arm="truncated"))
    text = shown.getvalue()
    assert "truncated seed 0 generation 1 train" in text
    assert "baseline seed 0 generation 1 train" in text
    assert "60/120" in text
    assert "loss 3.214" in text


def test_the_cursor_comes_back_when_the_work_fails(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr("rich.console.Console", lambda **_: REAL_CONSOLE(file=shown, force_terminal=True, width=80))
    with pytest.raises(RuntimeError), show_cells(2):
        raise RuntimeError
    text = shown.getvalue()
    assert 0 <= text.index("\x1b[?25l") < text.rindex("\x1b[?25h")
