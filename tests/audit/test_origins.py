"""Genre is not machine: what further references say of a difference, and the caveat of each finding."""

import pytest

from tailkeep.audit import run
from tailkeep.audit.comparison import Comparison, StatisticTest
from tailkeep.audit.findings import SECOND, SYNTHETIC, Origins, comparison_findings
from tailkeep.errors import ConfigError, InputError
from tests.audit.conftest import prose, write_jsonl

CONFIG = {"testing": {"permutations": 640}, "share": {"resamples": 100}}
PLAIN = {"testing": {"permutations": 640}}


def statistic(name, difference, *, flagged=True):
    return StatisticTest(name, 1.0 + difference, 1.0, difference, (0, 0, 0), 0.001, 0.001, flagged)


def divergence(name, *, flagged=True):
    return StatisticTest(name, None, None, 0.5, (0.1, 0, 0.2), 0.001, 0.001, flagged)


def comparison(*tests):
    return Comparison(100, 50, list(tests))


TESTS = [statistic("a", -1), statistic("b", 1), statistic("c", 1)]


def test_a_difference_is_shared_only_if_it_is_significant_and_in_the_same_direction():
    second = comparison(statistic("a", -3), statistic("b", -1), statistic("c", 1, flagged=False))
    origins = Origins({SECOND: second})
    assert origins.shared_by(SECOND, TESTS) == ["a"]
    caveat = origins.caveat(TESTS)
    assert caveat == (
        "The second human reference differs in the same direction in 1 of 3 (a), which genre alone can explain."
    )
    assert [origins.figures(test) for test in TESTS[:2]] == [{"second_alike": True}, {"second_alike": False}]


def test_what_no_reference_was_given_for_is_not_claimed():
    assert "(--second-reference) and a synthetic one (--synthetic) tell more" in Origins().caveat(TESTS)
    synthetic = Origins({SYNTHETIC: comparison(*TESTS)}).caveat(TESTS)
    assert synthetic == (
        "The synthetic reference differs in the same direction in all 3. Another genre can give such differences too: "
        "--second-reference tests one."
    )
    both = Origins({SECOND: comparison(statistic("a", 1)), SYNTHETIC: comparison(statistic("a", 1))}).caveat(TESTS)
    assert both == (
        "The second human reference does not differ in this direction, so its genre explains none of it. "
        "The synthetic reference does not differ in this direction."
    )


def test_a_divergence_has_no_direction_and_is_never_shared():
    second = Origins({SECOND: comparison(*TESTS, divergence("JS"), divergence("KL"))})
    assert second.shared_by(SECOND, [*TESTS, divergence("JS"), divergence("KL")]) == ["a", "b", "c"]
    assert second.figures(divergence("JS")) == {}
    assert second.caveat([*TESTS, divergence("JS")]) == (
        "The second human reference differs in the same direction in all 3, which genre alone can explain. Divergences "
        "have no direction and are not counted here."
    )
    assert second.caveat([TESTS[0], divergence("JS")]).startswith(
        "The second human reference differs in the same direction in a, which genre alone can explain. Divergences"
    )
    assert second.caveat([divergence("JS")]) == "A divergence has no direction that another reference could share."
    count, *_ = comparison_findings(comparison(*TESTS, divergence("JS")), 0.05, second, "line")
    assert count.figures == {"tests": 4, "flagged": 4, "second_alike": 3, "with_direction": 3}


def test_a_reference_that_could_not_be_tested_is_named_with_the_reason():
    few = Origins(not_tested={SECOND: "the samples have 5 and 120 documents. Give larger corpora."})
    assert few.caveat(TESTS) == (
        "The second human reference was not tested: the samples have 5 and 120 documents. Give larger corpora."
    )
    synthetic = Origins(not_tested={SYNTHETIC: "it is too small."}).caveat(TESTS)
    assert synthetic == (
        "The synthetic reference was not tested: it is too small. Another genre can give such differences too: "
        "--second-reference tests one."
    )
    both = Origins({SYNTHETIC: comparison(*TESTS)}, {SECOND: "it is too small."}).caveat(TESTS)
    assert both == (
        "The second human reference was not tested: it is too small. The synthetic reference differs in the same "
        "direction in all 3."
    )


def test_the_figures_of_a_sign_are_those_of_both_directions():
    tests = [statistic("repetition", 1), statistic("compression", -1)]
    sign = next(item for item in comparison_findings(comparison(*tests), 0.05, Origins(), "line") if item.source)
    assert "But the opposite holds for compression" in sign.sentence
    assert list(sign.figures) == ["repetition", "compression"]


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """The input is a narrow genre; so is the second reference, and the synthetic one is wider than the first."""
    folder = tmp_path_factory.mktemp("origins")
    types = {"input": 40, "reference": 300, "second": 50, "synthetic": 900}
    return {
        side: write_jsonl(folder / f"{side}.jsonl", prose(120, words=30, seed=number, types=types[side]))
        for number, side in enumerate(types)
    }


def findings(outcome):
    return {finding["sentence"].split(":")[0].split(" of ")[0]: finding for finding in outcome.summary["findings"]}


def test_a_second_human_reference_explains_a_difference_of_genre(sides, tmp_path):
    alone = run(PLAIN, sides["input"], tmp_path / "alone", reference=sides["reference"])
    narrow = "Its vocabulary is narrower than the reference's in equally much text"
    assert "tell more" in findings(alone)[narrow]["caveat"]
    assert "second" not in alone.summary

    out = tmp_path / "second"
    both = run(PLAIN, sides["input"], out, reference=sides["reference"], second_reference=sides["second"])
    finding = findings(both)[narrow]
    assert finding["caveat"].endswith("which genre alone can explain.")
    assert any(figures["second_alike"] for figures in finding["figures"].values())
    assert both.flagged == alone.flagged
    assert both.summary["second"]["documents"] == 120
    assert both.summary["findings"][0]["figures"]["second_alike"] > 0


def test_synthetic_text_that_differs_the_other_way_explains_nothing(sides, tmp_path):
    outcome = run(CONFIG, sides["input"], tmp_path / "out", reference=sides["reference"], synthetic=sides["synthetic"])
    finding = findings(outcome)["Its vocabulary is narrower than the reference's in equally much text"]
    assert "The synthetic reference does not differ in this direction" in finding["caveat"]


@pytest.mark.slow
def test_every_significant_finding_has_a_caveat(sides, tmp_path):
    outcome = run(CONFIG, sides["input"], tmp_path / "out", reference=sides["reference"], synthetic=sides["synthetic"],
                  second_reference=sides["second"])  # fmt: skip
    flagged = [finding for finding in outcome.summary["findings"] if finding["flagged"]]
    assert len(flagged) >= 3
    assert all(finding["caveat"] for finding in flagged)
    printed = outcome.lines()
    assert all(any(finding["caveat"] in line for line in printed) for finding in flagged)


def test_a_second_reference_needs_the_first_and_other_files(sides, tmp_path):
    with pytest.raises(ConfigError, match="--second-reference has no effect without --reference"):
        run({}, sides["input"], tmp_path / "out", second_reference=sides["second"])
    with pytest.raises(InputError, match="both --reference and --second-reference"):
        run({}, sides["input"], tmp_path / "o", reference=sides["second"], second_reference=sides["second"])


def test_a_second_reference_that_is_too_small_is_said_not_to_be_tested(sides, tmp_path):
    few = write_jsonl(tmp_path / "few.jsonl", prose(5, words=30, seed=9))
    outcome = run(PLAIN, sides["input"], tmp_path / "out", reference=sides["reference"], second_reference=few)
    caveat = outcome.summary["findings"][0]["caveat"]
    assert "The second human reference was not tested: the samples have 5 and 120 documents" in caveat
    assert "--second-reference" not in caveat
