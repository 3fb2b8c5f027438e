"""What a report says about a run that grew."""

from tailkeep.report import write
from tailkeep.report.lab.run import UnfinishedChain, read_lab_run
from tailkeep.report.lab.sentences import growth_lines
from tailkeep.runs import Addition, RunDirectory
from tests.report.built_runs import finish, new_run

FIRST = Addition(at="2026-01-01T00:00:00Z", arms={"baseline": 3}, seeds=(0, 1))


def later(**changes):
    return Addition(**{"at": "2026-02-03T04:05:06Z", "arms": {"baseline": 3}, "seeds": (0, 1), **changes})


def test_a_run_of_one_call_did_not_grow():
    assert growth_lines([FIRST]) == growth_lines([]) == ()


def test_each_addition_is_named_with_its_day():
    history = [
        FIRST,
        later(seeds=(0, 1, 2, 5)),
        later(arms={"baseline": 6, "truncated": 3}),
        later(arms={"truncated": 3}, seeds=(5,)),
        later(seeds=(6, 7, 8, 9)),
        later(recomputed=("baseline",), accepted=('packages.torch: "2.12" there, "2.13" here',)),
    ]
    assert growth_lines(history) == (
        "2026-02-03: seeds 2 and 5 added.",
        "2026-02-03: arm truncated and generations up to 5 of baseline added.",
        "2026-02-03: chains of truncated added.",
        "2026-02-03: seeds 6 to 9 added.",
        '2026-02-03: baseline computed again; another environment accepted: packages.torch: "2.12" there, "2.13" here.',
    )


def grown_run(path):
    """Seeds 0 and 1 of a baseline, then an arm under seed 0 alone."""
    with new_run(path, arms=("baseline", "late"), seeds=(0, 1), generations=1) as run:
        for arm, seed in (("baseline", 0), ("baseline", 1)):
            finish(run.generation_dir(arm, seed, 0), {"held_out_nll": 2.0}, learner="causal_lm")
    history = (FIRST.model_copy(update={"arms": {"baseline": 1}}), later(arms={"late": 1}, seeds=(0,)))
    record = RunDirectory.open(path).record.model_copy(update={"history": history})
    (path / "run.json").write_text(record.text())
    return path


def test_only_the_chains_that_were_asked_for_can_be_unfinished(tmp_path):
    run = read_lab_run(grown_run(tmp_path / "run"))
    assert run.unfinished == (UnfinishedChain("late", 0, None, None),)


def test_the_page_says_that_a_run_grew(tmp_path):
    assert "This run grew. 2026-02-03: arm late added." in write(grown_run(tmp_path / "run")).read_text()
