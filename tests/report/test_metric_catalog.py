from tailkeep.report.metric_catalog import companion_of, describe, further_names, headline_names, main_metrics

NAMES = {
    "held_out_nll", "downstream.piqa", "downstream.piqa.low", "downstream.piqa.high", "downstream.piqa.chance",
    "downstream.piqa.items", "common.coverage_1", "common.coverage_1_expected", "common.kl_2_real_sample",
    "common.kl_2_real_sample_expected",
}  # fmt: skip


def test_a_downstream_test_is_a_headline_with_its_interval_and_chance():
    assert headline_names(NAMES) == ("held_out_nll", "downstream.piqa")
    assert describe("downstream.piqa").title == "piqa"
    assert companion_of("downstream.piqa") == ("downstream.piqa.chance", "the chance level")


def test_a_companion_metric_has_no_separate_figure():
    assert further_names(NAMES) == ("downstream.piqa.items", "common.kl_2_real_sample", "common.coverage_1")


def test_a_metric_and_its_companion_are_of_one_view():
    assert companion_of("own.coverage_1") == ("own.coverage_1_expected", "an equal amount of real text")
    assert companion_of("own.coverage_1_expected") is None
    assert companion_of("own.coverage_1_outside") is None
    assert companion_of("distinct_1") is None


def test_a_part_of_a_test_that_is_unknown_is_shown_under_its_raw_name():
    assert describe("downstream.piqa.other").title == "downstream.piqa.other"


def test_the_selection_is_drawn_beside_all_candidates():
    names = {"selected_true_share", "candidate_true_share", "effective_sample_size", "selected_share", "candidates"}
    assert companion_of("selected_true_share") == ("candidate_true_share", "all candidates")
    assert headline_names(names) == ("selected_true_share",)
    assert further_names(names) == ("candidates", "selected_share", "effective_sample_size")


def test_a_verdict_is_about_the_learners_main_metrics_or_else_the_first_headlines():
    assert main_metrics("causal_lm", {"held_out_nll", "kr_accuracy", "distinct_4"}) == ("kr_accuracy", "held_out_nll")
    assert main_metrics("vae", {"latent_std", "recall", "frechet"}) == ("recall", "frechet")
    assert main_metrics("user", {"recall", "zeta"}) == ("recall",)
    assert main_metrics("user", {"zeta", "alpha", "eta"}) == ("alpha", "eta")
