"""`--fail-if`: which conditions are met, and the exit codes."""

import pytest

from tailkeep.audit import parse_condition
from tailkeep.errors import ConfigError, InputError
from tests.audit.conftest import QUICK_OPTIONS, prose, write_jsonl
from tests.audit.test_share import human, machine, shuffled

FAST = [*QUICK_OPTIONS, "--set", "sample.documents=40"]
SHARE = {"share": 0.3, "low": 0.2, "high": 0.4, "refusal": ""}


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("share > 0.1", True),
        ("share > 0.25", False),
        ("share>0.2", False),
        ("share >= 0.2", True),
        ("share < 0.5", True),
        ("share < 0.35", False),
        ("share < 0.4", False),
        ("share <= 0.4", True),
        ("flagged >= 3", True),
        ("flagged > 3", False),
        ("exact_duplicates_share > 1e-2", True),
    ],
)
def test_the_whole_interval_must_meet_a_condition(condition, met):
    families = {
        "tests": [{"name": "a", "flagged": True}, {"name": "b", "flagged": False}, {"name": "c", "flagged": True}],
        "language": [{"name": "hedges", "flagged": True}],
    }
    summary = {"share": SHARE, "comparison": families, "input": {"exact_duplicates_share": 0.02}}
    assert parse_condition(condition).is_met(summary) == met


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("share", "is no condition. Write METRIC > NUMBER"),
        ("share = 0.1", "is no condition"),
        ("shar > 0.1", "unknown metric 'shar'. Use one of share, flagged"),
        ("share > much", "'much' is no finite number"),
        ("share > nan", "'nan' is no finite number"),
        ("share < inf", "'inf' is no finite number"),
    ],
)
def test_what_is_no_condition_is_named(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_condition(text)


def test_a_metric_without_a_value_is_an_error():
    refused = {"share": {"share": None, "low": None, "high": None, "refusal": "too few"}, "input": {}}
    with pytest.raises(InputError, match="no share is named: too few"):
        parse_condition("share > 0.1").is_met(refused)
    with pytest.raises(ConfigError, match="needs --reference and --synthetic"):
        parse_condition("share > 0.1").is_met({"input": {}})
    with pytest.raises(InputError, match="nothing was tested"):
        parse_condition("flagged > 0").is_met({"comparison": None})
    with pytest.raises(InputError, match="Give --near-duplicates"):
        parse_condition("near_duplicates_share > 0").is_met({"input": {}})


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")
    texts = {"input": shuffled([*human(90, 3), *machine(30, 4)]), "reference": human(150, 1)}
    texts["synthetic"] = machine(150, 2)
    for side, items in texts.items():
        write_jsonl(folder / f"{side}.jsonl", items)
    return [item for side in texts for item in (f"--{side}", folder / f"{side}.jsonl")]


def test_a_condition_decides_the_exit_code_of_a_run_and_of_its_repetition(tailkeep, sides, tmp_path):
    out = ["--out", tmp_path / "out", *FAST]
    code, printed, err = tailkeep("audit", *sides, *out, "--fail-if", "share > 0.05")
    assert code == 5
    assert "like the synthetic reference" in printed
    assert err.splitlines()[-1] == "--fail-if: met by this corpus: share > 0.05."
    assert tailkeep("audit", *sides, *out, "--fail-if", "share > 0.9", "--fail-if", "flagged > 20")[0] == 0
    assert tailkeep("audit", *sides, *out, "--fail-if", "share > 0.9", "--fail-if", "share > 0.01")[0] == 5


def test_a_refused_share_ends_with_an_error_and_bad_conditions_before_the_run(tailkeep, sides, tmp_path):
    few = write_jsonl(tmp_path / "few.jsonl", machine(5, 9))
    out = ["--out", tmp_path / "out", *FAST]
    code, _, err = tailkeep("audit", *sides[:4], "--synthetic", few, *out, "--fail-if", "share > 0.05")
    assert code == 2
    assert "error: --fail-if share: no share is named: the synthetic side has 5 documents" in err
    for condition in ("share >", "share > 0.1"):
        code, printed, _ = tailkeep("audit", *sides[:4], "--out", tmp_path / "none", "--fail-if", condition)
        assert (code, printed) == (2, "")
    assert not (tmp_path / "none").exists()


def test_a_condition_comes_before_rejected_documents_and_waits_for_all_shards(tailkeep, tmp_path):
    texts = prose(4, words=30, seed=1)
    folder = tmp_path / "in"
    write_jsonl(folder / "a.jsonl", [*texts, texts[0]])
    write_jsonl(folder / "b.jsonl", texts)
    with (folder / "a.jsonl").open("a") as file:
        file.write("no\n")
    arguments = ["audit", "--input", folder, "--out", tmp_path / "out", "--on-error", "skip"]
    condition = ["--fail-if", "exact_duplicates_share > 0.1"]
    code, _, err = tailkeep(*arguments, *condition, "--task-index", 1, "--num-tasks", 2)
    assert code == 0
    assert "--fail-if: not judged, since not all shards are finished." in err
    code, _, err = tailkeep(*arguments, *condition)
    assert code == 5
    assert "rejected: 1 documents" in err
    assert tailkeep(*arguments)[0] == 4
