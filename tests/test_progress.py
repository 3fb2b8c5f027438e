import io
import itertools
import sys

import pytest
from rich.console import Console

from tailkeep import progress
from tailkeep.lab import Event
from tailkeep.progress import show_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to move: clock(seconds)."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def finished(generation, arm="baseline", seed=0):
    return Event(arm, seed, generation, None)


def test_off_a_terminal_a_finished_generation_is_a_plain_line_on_stderr(clock, capsys):
    with show_progress(4) as observe:
        clock(10)
        observe(finished(0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "1/4 cells, 10 s, about 30 s left (baseline seed 0 generation 0)\n"


def test_phases_print_no_line_of_their_own(clock, capsys):
    with show_progress(2) as observe:
        for phase in ("generate", "train", "sample", "measure"):
            clock(10)
            observe(Event("baseline", 0, 0, phase))
    assert capsys.readouterr().err == ""


def test_lines_are_seconds_apart_but_the_last_is_always_printed(clock, capsys):
    with show_progress(100) as observe:
        for generation in range(100):
            clock(0.25)
            observe(finished(generation))
    lines = capsys.readouterr().err.splitlines()
    assert 4 <= len(lines) <= 6
    assert lines[-1] == "100/100 cells, 25 s, about 0 s left (baseline seed 0 generation 99)"


def test_what_an_earlier_run_has_done_does_not_count_as_fast_work(clock, capsys):
    with show_progress(4) as observe:
        observe(Event("baseline", 0, 0, None, resumed=True))
        observe(Event("baseline", 0, 1, None, resumed=True))
        clock(10)
        observe(finished(2))
    assert capsys.readouterr().err == "3/4 cells, 10 s, about 10 s left (baseline seed 0 generation 2)\n"


def test_a_run_that_was_finished_before_gives_no_time_left(clock, capsys):
    with show_progress(1) as observe:
        observe(Event("baseline", 0, 0, None, resumed=True))
    assert capsys.readouterr().err == "1/1 cells, 0 s (baseline seed 0 generation 0)\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_there_is_a_bar_that_says_what_is_at_work(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown, force_terminal=True, width=120))
    with show_progress(2) as observe:
        for generation, phase in itertools.product(range(2), ("train", "measure", None)):
            observe(Event("[bold]odd[/bold]", 3, generation, phase))
    text = shown.getvalue()
    assert "[bold]odd[/bold] seed 3 generation 1 measure" in text
    assert "2/2" in text


def test_the_cursor_comes_back_when_the_work_fails(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=shown, force_terminal=True, width=80))
    with pytest.raises(RuntimeError), show_progress(2):
        raise RuntimeError
    text = shown.getvalue()
    assert 0 <= text.index("\x1b[?25l") < text.rindex("\x1b[?25h")
