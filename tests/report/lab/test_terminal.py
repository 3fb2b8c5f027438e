import io

from rich.console import Console

from tailkeep.report import print_summary, show
from tests.report.built_runs import finish, new_run


def printed(print_it, path, width=100, **options):
    buffer = io.StringIO()
    print_it(path, Console(file=buffer, width=width, force_terminal=True, color_system="truecolor"), **options)
    return buffer.getvalue()


def plain_text(print_it, path, width=100, **options):
    buffer = io.StringIO()
    print_it(path, Console(file=buffer, width=width), **options)
    return buffer.getvalue()


def test_the_summary_names_every_arm_under_every_headline_metric(numbers):
    text = plain_text(print_summary, numbers)
    assert text.index("gaussian-ce") < text.index("mixture-ce")
    # Four metrics, and the paired difference of the first.
    assert text.count("mixture-accumulate") == 5
    assert "> 12" in text


def test_the_last_line_is_the_verdict_of_the_page(language):
    page = (language / "report.html").read_text(encoding="utf-8").replace("\N{NON-BREAKING HYPHEN}", "-")
    verdict = page.partition("<h1>")[2].partition("</h1>")[0]
    assert " ".join(plain_text(print_summary, language).split()).endswith(verdict)
    assert verdict.startswith("Under cross-entropy the model") or verdict.startswith("Trained on its own text")


def test_what_a_run_is_stands_above_its_numbers(language):
    text = plain_text(show, language)
    for words in ("demo", "fingerprint", "tailkeep 0.1.0", "0, 1, 2", "47 generations"):
        assert text.index(words) < text.index("Held-out NLL")
    assert "accumulate, seed 2: finished up to generation 2, generation 3 started" in text


def test_samples_are_shown_prompt_by_prompt_as_many_as_requested(language):
    assert "The clockmaker" not in plain_text(show, language, samples=2)
    assert "The clockmaker" in plain_text(show, language, samples=3)
    assert "generation 3" not in plain_text(show, language, samples=0).partition("Held-out NLL")[2]


def test_text_is_never_interpreted_as_markup_or_escape(hostile):
    text = printed(show, hostile)
    assert "[bold]not" in text
    assert "\\x1b[31mred" in text
    assert "\x1b[31m" not in text
    assert "\u202e" not in text


def test_a_narrow_terminal_loses_no_digit(tmp_path):
    with new_run(tmp_path / "r", arms=["a-rather-long-name-of-an-arm"], seeds=(0, 1), generations=2) as run:
        for seed in (0, 1):
            for generation in (0, 1):
                value = 123.456 + seed + generation
                finish(
                    run.generation_dir("a-rather-long-name-of-an-arm", seed, generation),
                    {"score": value},
                    learner="custom",
                )
    text = plain_text(print_summary, tmp_path / "r", width=60)
    assert "…" not in text


def test_a_run_without_a_finished_generation_says_so(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=1):
        pass
    assert "No generation is finished yet." in plain_text(show, tmp_path / "r")


def run_to(path, last_generations):
    """A run in which each arm has recorded generation 0 and its last one."""
    with new_run(path, arms=last_generations, seeds=(0,), generations=8) as run:
        for arm, last in last_generations.items():
            for generation in (0, last):
                finish(run.generation_dir(arm, 0, generation), {"score": 0.5}, learner="custom")
    return path


def test_final_values_of_different_generations_each_name_theirs(tmp_path):
    text = plain_text(print_summary, run_to(tmp_path / "r", {"short": 3, "long": 7}))
    rows = [line.split() for line in text.splitlines()]
    assert ["initial", "at", "final"] in [row[:3] for row in rows]
    assert [row[:4] for row in rows if row[:1] in (["short"], ["long"])] == [
        ["short", "0.500", "3", "0.500"],
        ["long", "0.500", "7", "0.500"],
    ]


def test_final_values_of_one_generation_name_it_once(tmp_path):
    text = plain_text(print_summary, run_to(tmp_path / "r", {"one": 7, "two": 7}))
    assert "custom, final value at generation 7" in text
    assert ["initial", "final"] in [line.split()[:2] for line in text.splitlines()]


def test_the_columns_and_the_limits_of_failure_are_defined_once_beneath_the_tables(numbers, tmp_path):
    note = " ".join(plain_text(print_summary, numbers).rpartition("Means over seeds")[2].split())
    for word in (
        "initial",
        "final",
        "slope",
        "failure:",
        "median σ < half the real σ",
        "fewer than 75 % of the modes",
    ):
        assert note.count(word) == 1
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=1) as run:
        finish(run.generation_dir("a", 0, 0), {"score": 1.0}, learner="custom")
    assert "failure:" not in plain_text(print_summary, tmp_path / "r")


def test_a_run_may_be_named_by_a_string(language):
    for print_it in (print_summary, show):
        assert plain_text(print_it, str(language)) == plain_text(print_it, language)
