import pytest

from tailkeep.report.metric_catalog import LEARNERS, METRICS, Catalog
from tailkeep.runs.metric import FailureLimit, Metric, parse_definitions

NAMES = {
    "held_out_nll", "downstream.piqa", "downstream.piqa.low", "downstream.piqa.high", "downstream.piqa.chance",
    "downstream.piqa.items", "common.coverage_1", "common.coverage_1_expected", "common.kl_2_real_sample",
    "common.kl_2_real_sample_expected",
}  # fmt: skip
TEXT = Catalog("causal_lm")


def test_a_downstream_test_is_a_headline_with_its_interval_and_chance():
    assert TEXT.headline_names(NAMES) == ("held_out_nll", "downstream.piqa")
    assert TEXT.describe("downstream.piqa").title == "piqa"
    assert TEXT.describe("downstream.piqa").companion == ("downstream.piqa.chance", "the chance level")


def test_a_companion_metric_has_no_separate_figure():
    assert TEXT.further_names(NAMES) == ("downstream.piqa.items", "common.kl_2_real_sample", "common.coverage_1")


def test_a_metric_its_companion_and_its_total_are_of_one_view():
    expected = ("own.coverage_1_expected", "an equal amount of real text")
    assert TEXT.describe("own.coverage_1").companion == expected
    assert TEXT.describe("common.people_named").total == "common.people_total"
    for name in ("own.coverage_1_expected", "own.coverage_1_outside", "distinct_1"):
        assert TEXT.describe(name).companion is None


def test_a_part_of_a_test_that_is_unknown_is_shown_under_its_raw_name():
    assert TEXT.describe("downstream.piqa.other").title == "downstream.piqa.other"


def test_the_selection_is_drawn_beside_all_candidates():
    names = {"selected_true_share", "candidate_true_share", "effective_sample_size", "selected_share", "candidates"}
    assert TEXT.describe("selected_true_share").companion == ("candidate_true_share", "all candidates")
    assert TEXT.headline_names(names) == ("selected_true_share",)
    assert TEXT.further_names(names) == ("candidates", "selected_share", "effective_sample_size")


def test_a_verdict_is_about_the_learners_main_metrics_or_else_the_first_headlines():
    assert TEXT.main_metrics({"held_out_nll", "kr_accuracy", "distinct_4"}) == ("kr_accuracy", "held_out_nll")
    assert Catalog("vae").main_metrics({"latent_std", "recall", "frechet"}) == ("recall", "frechet")
    assert Catalog("user").main_metrics({"recall", "zeta"}) == ("recall",)
    assert Catalog("user").main_metrics({"zeta", "alpha", "eta"}) == ("alpha", "eta")
    assert all(name in METRICS or name == "kr_fraction_0" for one in LEARNERS.values() for name in one.main_metrics)


def test_every_count_has_its_total_and_every_other_metric_that_is_named_is_known():
    for metric in METRICS.values():
        assert (metric.range == "count") == bool(metric.total)
        others = [metric.total, *(metric.items or ())[:1], *(limit.of for limit in metric.limits)]
        assert all(other in METRICS for other in others if other)


def test_what_is_a_share_or_positive_by_its_formula_has_that_range():
    shares = "self_bleu", "language_type_token_ratio", "downstream.piqa", "downstream.piqa.macro_f1", "kr_fraction_2"
    assert {TEXT.describe(name).range for name in shares} == {"share"}
    positive = "vendi", "language_questions", "class_entropy", "first_model_perplexity", "std_low"
    assert {TEXT.describe(name).range for name in positive} == {"positive"}
    of_any_sign = "downstream.piqa.log_odds", "kr_standardised_margin", "mixture_gain", "confidence_gap"
    assert {TEXT.describe(name).range for name in of_any_sign} == {"any"}


def test_a_unit_is_per_token_only_for_language_models():
    assert TEXT.describe("held_out_nll").unit == "nats/token"
    assert Catalog("ecosystem").describe("held_out_nll").unit == "nats/token"
    assert Catalog("mixture").describe("held_out_nll").unit == "nats/point"
    assert TEXT.describe("common.distinct_4").unit == ""


# When a chain has failed


def keys(learner, *names):
    return [rule.key for rule in Catalog(learner).failure_rules({*names})]


def test_limits_are_those_of_the_metrics_that_were_measured_the_main_ones_first():
    knowledge = ["kr_accuracy", "kr_accuracy_margin"]
    assert keys("causal_lm", "held_out_nll", "kr_accuracy", "kr_items") == [*knowledge, "held_out_nll"]
    assert keys("vae", "latent_std", "recall") == ["latent_std"]
    assert keys("gaussian", "mean_abs_median") == []


def test_the_first_fraction_decides_where_real_data_arrive_in_fractions():
    names = "kr_accuracy", "kr_items", "kr_fraction_0", "kr_fraction_0.items", "kr_fraction_1"
    assert keys("causal_lm", *names) == ["kr_fraction_0", "kr_fraction_0_margin"]


def test_ten_percent_above_means_nothing_for_the_nll_of_a_density():
    assert keys("mixture", "held_out_nll", "modes_alive", "modes_total") == ["modes_alive"]


# Metrics of the user's own

REPEATED = Metric("Repeated openings", "Of the samples.", "lower", headline=True, range="share", unit="")


def test_a_metric_of_ones_own_is_read_like_ours():
    catalog = Catalog("causal_lm", {"repeated": REPEATED})
    assert catalog.describe("common.repeated") == REPEATED
    assert catalog.headline_names({"common.repeated", "held_out_nll"}) == ("held_out_nll", "common.repeated")
    assert catalog.title_in_sentence("common.repeated") == "repeated openings"
    assert TEXT.describe("common.repeated").title == "repeated"


def test_a_unit_of_ones_own_stays_as_it_was_written():
    bits = Metric("Bits", unit="bits/token")
    assert Catalog("code", {"bits": bits}).describe("bits").unit == "bits/token"


def test_ones_own_definition_of_a_name_that_we_know_counts():
    assert Catalog("user", {"coverage": REPEATED}).describe("coverage") == REPEATED


def test_a_definition_survives_json():
    tree = {
        "title": "Width", "note": "", "better": None, "headline": True, "log": False, "range": "positive",
        "unit": "m", "reference": [1.0, "real data, 1"],
        "limits": [{"value": 0.5, "condition": "half of it", "of": "width"}],
    }  # fmt: skip
    limit = FailureLimit(0.5, "half of it", of="width")
    expected = Metric(
        "Width", headline=True, range="positive", unit="m", reference=(1.0, "real data, 1"), limits=(limit,)
    )
    assert parse_definitions({"width": tree}) == {"width": expected}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"width": {"title": "W", "range": "shares"}}, r"width.range: Input should be 'any'.* \(received 'shares'\)"),
        ({"width": {"title": "W", "limits": [{"value": "x", "condition": ""}]}}, "width.limits.0.value: .*'x'"),
        ({"width": {}}, "width.title: Field required"),
        ([1], "definitions: Input should be a valid dictionary"),
    ],
)
def test_a_definition_that_is_none_is_named_with_its_key(tree, message):
    with pytest.raises(ValueError, match=message):
        parse_definitions(tree)
