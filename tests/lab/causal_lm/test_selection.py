"""Each selector on texts whose weights are known, and what every selection tells of itself."""

import numpy as np
import pytest

from tailkeep.data import World, WorldConfig
from tailkeep.lab.causal_lm.selection import TextSelector, mean_surprisal
from tailkeep.lab.causal_lm.tokens import TokenData, bias_weights, machine_probability, verifier_weights
from tailkeep.lab.selectors import DSIR, Detector, Surplexity, Uniform, Verifier
from tailkeep.workers import limited_threads
from tests.lab.causal_lm.tiny import STORIES

WORLD = World(WorldConfig(people=8, values=6, documents=60))
TRUE = WORLD.corpus()[:40]
OTHER = World(WorldConfig(people=8, values=6, seed=1)).corpus()[:40]
RANDOM = Uniform(name="random")
VERIFIER = Verifier(name="verifier")


def lies(texts):
    """Each document with the value of its last sentence exchanged for another person's."""
    values = WORLD.population.values
    false_texts = []
    for text in texts:
        last = WORLD.parse(text).statements[-1]
        words = values[last.attribute]
        head, _, tail = text.rpartition(words[last.value])
        false_texts.append(head + words[(last.value + 1) % len(words)] + tail)
    return false_texts


def tokens_of(texts, tokenizer, prompt_length=1):
    return TokenData.from_documents(
        [tokenizer.encode(text) for text in texts], tokenizer, prompts=[prompt_length] * len(texts)
    )


def select(tokenizer, texts, by, size, *, real=TRUE, seed=0, world=WORLD, model=None, block=512):
    selecting = TextSelector(tokens_of(real, tokenizer, 0), world, block)
    result = selecting(model, tokens_of(texts, tokenizer), by=by, size=size, seed=seed)
    return [tokenizer.decode(document) for document in result.documents], result.facts


def test_at_random_every_candidate_counts_alike_and_none_is_taken_twice(tokenizer):
    texts, facts = select(tokenizer, TRUE, RANDOM, 10)
    assert (facts["candidates"], facts["selected_share"], facts["effective_sample_size"]) == (40, 0.25, 40)
    assert facts["candidate_true_share"] == facts["selected_true_share"] == 1
    assert len(texts) == 10
    assert texts == select(tokenizer, TRUE, RANDOM, 10)[0]
    assert texts != select(tokenizer, TRUE, RANDOM, 10, seed=1)[0]


def test_without_a_world_nothing_is_told_of_the_truth(tokenizer):
    assert set(select(tokenizer, STORIES, RANDOM, 5, world=None)[1]) == {
        "candidates", "selected_share", "effective_sample_size",
    }  # fmt: skip


def test_surplexity_takes_the_documents_that_the_model_finds_least_likely(tokenizer):
    class Scored:
        def log_probs(self, rows):
            return [np.full(len(row) - 1, -float(len(row)), np.float32) for row in rows]

    max_length = sorted(STORIES, key=lambda text: -len(tokenizer.encode(text)))[:8]
    texts, facts = select(tokenizer, STORIES, Surplexity(name="surplexity"), 8, model=Scored(), world=None)
    assert sorted(map(len, map(tokenizer.encode, texts))) == sorted(map(len, map(tokenizer.encode, max_length)))
    assert texts == [text for text in STORIES if text in texts]
    assert facts["effective_sample_size"] == pytest.approx(8)


def test_surprise_is_the_mean_of_what_the_model_wrote_in_rows_as_it_is_trained(tokenizer):
    class DocumentLines:
        """ln p of a token is less by its place in its row."""

        def log_probs(self, rows):
            return [-np.arange(1, len(row), dtype=np.float32) for row in rows]

    rows = [np.arange(length, dtype=np.int32) for length in (6, 2, 1)]
    data = TokenData.from_documents(rows, tokenizer, prompts=[3, 1, 1])
    # The first document: places 1 to 5 in one row, of which those behind the prompt are 3, 4, 5; in rows of 4: 3, 4, 1.
    assert mean_surprisal(DocumentLines(), data, block=8).tolist() == [4, 1, 2.5]
    assert mean_surprisal(DocumentLines(), data, block=4)[0] == pytest.approx((3 + 4 + 1) / 3)


def test_dsir_takes_what_reads_like_the_real_text(tokenizer):
    mixed = [text for pair in zip(TRUE, OTHER, strict=True) for text in pair]
    texts, facts = select(tokenizer, mixed, DSIR(name="dsir"), 20, world=None)
    assert set(texts) <= set(TRUE)
    assert facts["selected_share"] == 0.25
    assert 1 <= facts["effective_sample_size"] < 80


def test_a_verifier_accepts_the_true_and_the_true_alone(tokenizer):
    wrong = lies(TRUE)
    assert not set(wrong) & set(TRUE)
    broken = [text[:-3] for text in TRUE]
    texts, facts = select(tokenizer, [*wrong, *TRUE, *broken], VERIFIER, 30)
    assert set(texts) <= set(TRUE)
    assert facts["accepted_share"] == pytest.approx(1 / 3)
    assert facts["effective_sample_size"] == pytest.approx(40)
    assert facts["candidate_true_share"] < facts["selected_true_share"] == 1
    assert facts["selected_share"] == 0.25


def test_fewer_accepted_documents_than_needed_are_repeated_and_with_none_all_count_alike(tokenizer):
    wrong = lies(TRUE)
    texts, facts = select(tokenizer, [*wrong, *TRUE[:4]], VERIFIER, 10)
    assert len(texts) == 10
    assert set(texts) == set(TRUE[:4])
    assert facts["selected_share"] == pytest.approx(4 / 44)
    texts, facts = select(tokenizer, wrong, VERIFIER, 10)
    assert len(texts) == 10
    assert facts["accepted_share"] == 0


def test_an_error_rate_is_the_share_of_wrong_verdicts_on_right_and_on_wrong_documents():
    rng = np.random.default_rng(0)
    erring = Verifier(name="verifier", error_rate=0.2)
    right, wrong = ([verifier_weights(texts, erring, WORLD, rng) for _ in range(50)] for texts in (TRUE, lies(TRUE)))
    # 2,000 verdicts each: the standard error of the share is .009.
    assert np.mean(right) == pytest.approx(0.8, abs=0.04)
    assert np.mean(wrong) == pytest.approx(0.2, abs=0.04)
    assert set(np.unique(right)) == {0, 1}


def test_a_bias_towards_people_weighs_a_document_by_how_often_its_person_is_spoken_of():
    shares = WORLD.population.people_share
    result = bias_weights(TRUE, Verifier(name="verifier", bias="people"), WORLD)
    people = [WORLD.parse(text).statements[0].person for text in TRUE]
    assert result == pytest.approx(shares[people] / shares[0])
    assert bias_weights(["Nobody knows."], Verifier(name="verifier", bias="people"), WORLD).tolist() == [0]


def test_a_bias_towards_a_phrasing_weighs_a_document_by_its_sentences_in_the_commonest_one():
    result = bias_weights(TRUE, Verifier(name="verifier", bias="phrasing"), WORLD)
    expected = [np.mean([s.phrasing == 0 for s in WORLD.parse(text).statements]) for text in TRUE]
    assert result == pytest.approx(expected)
    assert bias_weights(TRUE, VERIFIER, WORLD).tolist() == [1] * len(TRUE)


def test_the_detector_tells_other_text_from_real_text_and_not_real_from_real(tokenizer):
    pytest.importorskip("sklearn.linear_model")
    with limited_threads(1):
        real, candidates = machine_probability(TRUE, OTHER)
        alike = machine_probability(TRUE, WORLD.held_out()[:40])
        mixed = [text for pair in zip(WORLD.held_out()[:40], OTHER, strict=True) for text in pair]
        texts, facts = select(tokenizer, mixed, Detector(name="detector"), 20)
    assert (real < 0.5).mean() > 0.9
    assert (candidates > 0.5).mean() > 0.9
    assert 0.3 < np.mean(alike[1] > 0.5) < 0.7
    assert len(set(texts) & set(OTHER)) == 0
    assert 0.5 < facts["detector_accuracy"] < 1
    assert max(texts.count(text) for text in texts) <= 3 * max(mixed.count(text) for text in mixed)


def test_a_detector_of_too_few_texts_knows_nothing():
    pytest.importorskip("sklearn")
    real, candidates = machine_probability(["a"], ["b"])
    assert (real.tolist(), candidates.tolist()) == ([0.5], [0.5])


def test_a_selection_keeps_its_facts_on_disk_and_a_part_of_it_has_none(tokenizer, tmp_path):
    result = TextSelector(tokens_of(TRUE, tokenizer, 0), WORLD, 64)(
        None, tokens_of(TRUE, tokenizer), by=RANDOM, size=5, seed=0
    )
    result.save(tmp_path)
    read = result.read(tmp_path)
    assert read.facts == result.facts != {}
    assert read.ids.tolist() == result.ids.tolist()
    assert read.take(np.arange(2)).facts == {}
