"""The share of synthetic documents: known mixtures of made languages, refusals, and what the audit writes of it."""

import json

import numpy as np
import pytest

from tailkeep.audit import run
from tailkeep.audit.config import SampleConfig, ShareConfig
from tailkeep.audit.documents import SampledDocument
from tailkeep.audit.evidence import blocks_of, score_words, tabulate
from tailkeep.audit.share import (
    ShareEstimate,
    _design_effect,
    _edges,
    classifier_test,
    estimate_share,
    score_corpus,
)
from tailkeep.audit.share_summary import ShareSummary, share_finding
from tailkeep.errors import ConfigError, InputError
from tests.audit.conftest import QUICK, left_by, one_thread, prior, prose, sample_of, write_jsonl

__all__ = ["one_thread", "prior"]
FAST = ShareConfig(resamples=100)


def human(documents, seed):
    return prose(documents, words=40, seed=seed, types=300)


def machine(documents, seed):
    """The same language with half of its words, and some of its own."""
    return [
        f"moreover delve {number % 7}x {text}"
        for number, text in enumerate(prose(documents, words=40, seed=seed, types=150))
    ]


def other(documents, seed):
    """Words that neither of both has."""
    return [text.replace("x", "q") for text in prose(documents, words=40, seed=seed, types=300)]


def scored(corpus, references=(), **more):
    reference, synthetic = references or (human(150, 1), machine(150, 2))
    samples = {"input": corpus, "reference": reference, "synthetic": synthetic}
    return score_corpus({side: sample_of(texts) for side, texts in samples.items()}, SampleConfig(), **more)


def shuffled(texts, seed=0):
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))]


@pytest.mark.parametrize("number", [0, 20, 100, 200])
def test_a_known_share_is_in_the_interval(number):
    corpus = shuffled([*human(200 - number, 3), *machine(number, 4)])
    estimate = estimate_share(scored(corpus), FAST, 0)
    assert estimate.refusal == ""
    assert estimate.low <= number / 200 <= estimate.high
    assert estimate.high - estimate.low < 0.35
    assert (estimate.zero_p <= 0.05) == (number > 0)


def test_documents_are_scored_by_models_that_have_not_seen_them():
    # Both references are of one language: scores in sample would separate them, by 0.9 and more.
    areas = [scored(human(30, 3), references=(human(150, seed), human(150, seed + 50))).separation for seed in range(6)]
    assert 0.4 < np.mean(areas) < 0.6


def test_the_score_is_the_likelihood_ratio_of_occurrences():
    texts = {"input": ["a b"] * 20, "reference": ["a c"] * 20, "synthetic": ["b c"] * 20}
    sides = score_corpus(
        {side: sample_of([f"{text} d e f g h i"[:17] for text in items]) for side, items in texts.items()},
        SampleConfig(min_words=4),
    )  # fmt: skip
    # By hand, of 18 documents of the other blocks and one added to both outcomes: a is in all human and no synthetic
    # ones, b the reverse; "a b" has both, lacks the pairs "a c", "c d" of either side as both have "c d".
    share, none = 19 / 20, 1 / 20
    present = np.log(none / share) + np.log(share / none)
    absent_pairs = np.log((1 - none) / (1 - share)) + np.log((1 - share) / (1 - none))
    assert sides.evidence["input"].scores == pytest.approx(np.full(20, present + absent_pairs), abs=1e-9)
    assert sides.evidence["synthetic"].scores[0] > 0 > sides.evidence["reference"].scores[0]


def test_text_of_another_kind_is_refused_and_no_number_stands_beside_it():
    estimate = estimate_share(scored(shuffled([*human(100, 3), *other(60, 4)])), FAST, 0)
    assert "a classifier tells its documents from those of both references" in estimate.refusal
    assert (estimate.share, estimate.low, estimate.high, estimate.zero_p) == (None, None, None, None)
    assert estimate.transfer.auc > 0.6
    assert estimate.transfer.p < 0.01


def test_in_domain_text_is_refused_as_rarely_as_the_level_says():
    refused = 0
    for seed in range(30):
        corpus = shuffled([*human(60, 100 + seed), *machine(20, 200 + seed)], seed)
        references = human(80, 300 + seed), machine(80, 400 + seed)
        refused += bool(estimate_share(scored(corpus, references), FAST, seed).refusal)
    # 2 % nominally: more than 3 of 30 has a probability of 0.3 %.
    assert refused <= 3


def test_the_classifier_sees_no_difference_in_the_mixture_and_one_in_another_share():
    sides = scored(shuffled([*human(100, 3), *machine(100, 4)]))
    rows = np.arange(len(sides.sides["input"].texts))

    def p_value(share):
        return classifier_test(sides.tables, rows, (np.full(10, share), np.full(10, share))).p

    assert p_value(0.5) > 0.05
    assert p_value(0.0) < 0.01


def test_synthetic_documents_that_lie_side_by_side_are_no_other_kind():
    # Blocks of the corpus are all human or all synthetic; each is compared with the mixture of its own share.
    estimate = estimate_share(scored([*human(140, 3), *machine(60, 4)]), FAST, 0)
    assert estimate.refusal == ""
    assert estimate.low <= 0.3 <= estimate.high


def test_words_of_one_topic_are_no_evidence():
    # A topic has words of its own in consecutive documents, more of them on the synthetic side.
    def with_topics(texts, size):
        return [f"{text} topic{number // size}q theme{number // size}q" for number, text in enumerate(texts)]

    references = with_topics(human(150, 1), 75), with_topics(human(150, 2), 7)
    sides = scored(with_topics(human(100, 3), 7), references=references)
    plain = scored(human(100, 3), references=(human(150, 1), human(150, 2)))
    assert sides.separation == pytest.approx(plain.separation, abs=0.1)


def test_dependent_documents_widen_the_interval():
    def in_runs(texts, size):
        return [texts[number // size * size] for number in range(len(texts))]

    alone = estimate_share(scored(shuffled([*human(140, 3), *machine(60, 4)])), FAST, 0)
    references = in_runs(human(150, 1), 15), in_runs(machine(150, 2), 15)
    runs = estimate_share(scored(shuffled([*human(140, 3), *machine(60, 4)]), references), FAST, 0)
    assert runs.refusal or runs.high - runs.low > alone.high - alone.low


def test_too_few_documents_are_refused_with_their_number():
    assert (
        "it has 11 documents of at least 44 words, and 20 are needed"
        in estimate_share(scored(human(12, 3)), FAST, 0).refusal
    )
    few = scored(human(40, 3), references=(human(40, 1), machine(7, 2)))
    assert "the synthetic side has 7 documents" in estimate_share(few, FAST, 0).refusal
    assert np.isnan(few.separation)


def test_an_interval_that_says_nothing_is_refused():
    # Both references are of one language, so every share explains the corpus.
    corpora = [scored(human(26, seed), references=(human(26, seed + 50), human(26, seed + 90))) for seed in range(6)]
    estimates = [estimate_share(corpus, FAST, 0) for corpus in corpora]
    assert any("its interval is 0% to 100%" in estimate.refusal for estimate in estimates)
    assert all(estimate.refusal or estimate.low > 0.01 or estimate.high < 0.99 for estimate in estimates)


def test_a_priors_scores_add_evidence():
    texts = {"input": human(60, 5), "reference": human(100, 1), "synthetic": human(100, 2)}
    rng = np.random.default_rng(0)
    means = {"input": 3.0, "reference": 3.0, "synthetic": 2.0}
    statistics = {
        side: {f"x:{i}": np.array([rng.normal(means[side], 0.3), 0.2, 0.1]) for i in range(len(items))}
        for side, items in texts.items()
    }
    samples = {side: sample_of(items) for side, items in texts.items()}
    alone = score_corpus(samples, SampleConfig())
    together = score_corpus(samples, SampleConfig(), statistics)
    assert alone.separation < 0.65
    assert together.separation > 0.95
    assert estimate_share(together, FAST, 0).high < 0.2 < estimate_share(alone, FAST, 0).high


def test_the_vocabulary_is_what_three_documents_hold():
    sides = {
        side: type("Side", (), {"texts": [b"one two"] * number})()
        for side, number in (("input", 1), ("reference", 1), ("synthetic", 0))
    }
    assert tabulate(sides)["input"].shape == (1, 0)
    sides["synthetic"].texts = [b"one three"]
    tables = tabulate(sides)
    assert tables["synthetic"].toarray().tolist() == [[1]]
    assert score_words(tables)["input"].scores.shape == (1,)


# The whole audit


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    corpus = shuffled([*human(90, 3), *machine(30, 4)])
    return [
        write_jsonl(folder / f"{name}.jsonl", texts, name)
        for name, texts in (("input", corpus), ("reference", human(150, 1)), ("synthetic", machine(150, 2)))
    ]


CONFIG = {"share": {"resamples": 100}, "testing": QUICK, "sample": {"documents": 40}}


def test_the_share_is_the_first_finding_with_its_figures_and_documents(three, tmp_path):
    outcome = run(CONFIG, three[0], tmp_path / "out", reference=three[1], synthetic=three[2])
    share = outcome.summary["share"]
    assert share["low"] <= 0.25 <= share["high"]
    finding = outcome.summary["findings"][0]
    assert finding["flagged"]
    assert f"{share['share']:.1%} of its documents are like the synthetic reference (90% CI" in finding["sentence"]
    telling = [json.loads(line) for line in (tmp_path / "out" / "tables" / "telling.jsonl").read_text().splitlines()]
    assert len(telling) == 20
    assert sum("delve" in item["text"] for item in telling) >= 18
    assert [item["evidence"] for item in telling] == sorted((item["evidence"] for item in telling), reverse=True)
    assert outcome.summary["synthetic"]["documents"] == 150


@pytest.mark.parametrize(("share", "is_small"), [(0.02, True), (0.3, False)])
def test_a_small_share_says_what_it_hangs_on(share, is_small):
    estimate = ShareEstimate(100, share, share / 2, 2 * share, 0.01, 0.5, None)
    finding = share_finding(ShareSummary(estimate, 0.9, 50, 0, 0.9, False, [], []))
    assert ("Below 5 % it hangs on how well the human reference" in finding.caveat) == is_small


@pytest.mark.parametrize(("zero_p", "is_significant"), [(0.77, False), (0.01, True)])
def test_a_share_that_may_be_0_says_so(zero_p, is_significant):
    estimate = ShareEstimate(241, 0.256, 0.0, 0.372, zero_p, 0.5, None)
    finding = share_finding(ShareSummary(estimate, 0.9, 49, 0, 0.9, False, [], []))
    assert finding.flagged == is_significant
    assert ("It is not significantly above 0 (p 0.77)." in finding.sentence) == (not is_significant)


def test_the_shards_and_workers_change_no_byte_of_the_share(three, tmp_path):
    split = tmp_path / "split"
    split.mkdir()
    lines = three[0].read_bytes().splitlines(keepends=True)
    (split / "input.jsonl").write_bytes(b"".join(lines))
    outs = []
    for number, (workers, inputs) in enumerate(((1, three[0]), (2, split))):
        out = tmp_path / f"out{number}"
        run(CONFIG, inputs, out, reference=three[1], synthetic=three[2], workers=workers)
        outs.append({name: data for name, data in left_by(out).items() if name.startswith("tables/telling")})
    assert outs[0] == outs[1] != {}


def test_a_refusal_is_a_finding_without_a_number(three, tmp_path):
    inputs = write_jsonl(tmp_path / "other.jsonl", other(80, 9))
    outcome = run(CONFIG, inputs, tmp_path / "out", reference=three[1], synthetic=three[2])
    finding = outcome.summary["findings"][0]
    assert finding["sentence"].startswith("No share of documents like the synthetic reference is named: ")
    assert not finding["flagged"]
    assert outcome.summary["share"]["share"] is None
    assert (tmp_path / "out" / "tables" / "telling.jsonl").read_text() == ""


@pytest.mark.slow
def test_with_a_prior_its_scores_are_part_of_the_evidence(three, prior, one_thread, tmp_path):
    config = {**CONFIG, "prior": {"path": str(prior)}}
    outcome = run(config, three[0], tmp_path / "out", reference=three[1], synthetic=three[2])
    assert outcome.summary["share"]["uses_prior"]
    without = run(CONFIG, three[0], tmp_path / "without", reference=three[1], synthetic=three[2])
    assert not without.summary["share"]["uses_prior"]
    # The evidence of words alone is a sum over all features, that of the regression is on the scale of its weights.
    evidence = [
        json.loads((tmp_path / name / "tables" / "telling.jsonl").read_text().splitlines()[0])["evidence"]
        for name in ("out", "without")
    ]
    assert evidence[0] != evidence[1]


def test_choices_without_effect_are_refused(three, tmp_path):
    with pytest.raises(ConfigError, match="--synthetic has no effect without --reference"):
        run({}, three[0], tmp_path / "out", synthetic=three[2])
    with pytest.raises(ConfigError, match=r"share \(--by\) has no effect without --synthetic"):
        run({"share": {"level": 0.8}}, three[0], tmp_path / "out", reference=three[1])
    with pytest.raises(InputError, match="both --reference and --synthetic"):
        run({}, three[0], tmp_path / "out", reference=three[1], synthetic=three[1])


def test_a_sampled_text_is_cut_where_the_sample_says(tmp_path):
    from tailkeep.audit.documents import HashSample
    from tailkeep.data.counters import ShardDocument

    sample = HashSample(2, 0, text_bytes=4)
    sample.add(ShardDocument(0, 0, "a", "abcdefgh", b"abcdefgh"))
    assert [(item.text, item.bytes) for item in sample.documents()] == [("abcd", 8)]
    assert isinstance(sample.documents()[0], SampledDocument)


def test_equal_scores_at_the_top_leave_no_bin_empty():
    """A tenth of both references has the highest score: beyond it there is nothing."""
    rng = np.random.default_rng(0)
    human, machine = (np.concatenate([rng.normal(shift, 1, 90).clip(None, 3), np.full(20, 3.0)]) for shift in (-1, 1))
    edges = _edges(human, machine)
    bins = np.bincount(np.searchsorted(edges, np.concatenate([human, machine])), minlength=len(edges) + 1)
    assert (bins > 0).all()
    assert edges.max() < 3


@pytest.mark.parametrize("documents", [20, 40, 400])
def test_independent_documents_have_a_design_effect_near_one(documents):
    """The larger of 1 and a ratio of variances with 9 degrees of freedom above: 1.2 to 1.5 on average, however few."""
    rng = np.random.default_rng(documents)
    effects = [_design_effect(rng.normal(size=documents), blocks_of(documents)) for _ in range(300)]
    assert np.mean(effects) < 1.6
