"""Items, the choice of real documents by hand-made cases, and what is measured outside of it."""

import numpy as np
import pytest

from tailkeep.data import World, WorldConfig
from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.selection import (
    ItemIndex,
    ReplayMeasure,
    TextReplay,
    WordIds,
    check_fits_replay,
    take_fitting,
)
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, train_tokenizer
from tailkeep.lab.causal_lm.tokens import ReplayedDocuments, TokenData
from tailkeep.lab.selectors import Extinction, Surplexity, Uniform
from tailkeep.lab.text_regimes import Replay
from tailkeep.metrics import CopyExtinction

HALF = CopyExtinction(0.5, 0.5)
LAST = Extinction(name="extinction", until=2)


def data_of(texts, tokenizer):
    return TokenData.from_documents([tokenizer.encode(text) for text in texts], tokenizer)


def chosen_by(replay, by, texts, budget, *, model=None, seed=0):
    data = replay(model, texts, by=by, budget=budget, extinction=HALF, seed=seed)
    return data.replayed.indices.tolist(), data.facts


# Items


def test_words_are_numbered_and_markup_separates_them():
    words = WordIds()
    assert words.ids("the cat <unk> the dog's").tolist() == [0, 1, -1, 0, 2]
    assert words.ids("<b>cat</b> 1 < 2 @-@ 3 > 1 = = dog's").tolist() == [-1, 1, -1, 3, 4, 5, 3, 2]
    assert words.ids("<|endoftext|>").tolist() == [-1]


def test_items_are_runs_of_one_to_three_that_no_break_crosses():
    documents = [np.array([0, 1, 0]), np.array([1, -1, 0, 1]), np.array([], np.int64)]
    index = ItemIndex(documents)
    # Words 0, 1; pairs 01, 10; the triple 010.
    assert index.copies.toarray().tolist() == [[2, 1, 1, 1, 1], [1, 2, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert index.weights == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 3])
    # What the real text lacks (2, and 1 1) is no item.
    assert index.count([np.array([0, 1, 1, 2, 0]), np.array([1, 0])]).tolist() == [3, 3, 1, 1, 0]
    assert index.count([]).tolist() == [0, 0, 0, 0, 0]


def test_items_are_counted_as_by_hand_in_random_texts():
    rng = np.random.default_rng(0)
    real, other = ([rng.integers(-1, 6, rng.integers(0, 12)) for _ in range(20)] for _ in range(2))

    def grams(rows):
        runs = (tuple(row[i : i + n].tolist()) for n in (1, 2, 3) for row in rows for i in range(len(row) - n + 1))
        return [run for run in runs if -1 not in run]

    items = sorted(set(grams(real)), key=lambda run: (len(run), run))
    index = ItemIndex(real)
    assert index.copies.toarray().T.tolist() == [[grams([row]).count(run) for row in real] for run in items]
    assert index.count(other).tolist() == [grams(other).count(run) for run in items]


# The choice


def test_documents_are_replayed_for_what_the_synthetic_text_lacks(tokenizer):
    real = data_of(["Ann saw a red cat.", "Ben had a green boat.", "Cleo saw a little tree."], tokenizer)
    synthetic = data_of(["Ann saw a red cat.", "Cleo saw a little tree.", "Ann saw a red cat."], tokenizer)
    replay = TextReplay(real, None, 8)
    one = (real.lengths.max() + 0.5) / real.units
    indices, facts = chosen_by(replay, LAST, [synthetic], one)
    assert indices == [1]
    assert facts["replayed_documents"] == 1
    assert facts["replayed_share"] == real.lengths[1] / real.units
    # Every item of all orders, with as many copies as by hand: 2 of document 0, 0 of document 1, 1 of document 2.
    assert 0 < facts["expected_loss_replayed"] < facts["expected_loss"] < 1
    # Older texts count beside the newest.
    boats = data_of(["Ben had a green boat."] * 9, tokenizer)
    assert chosen_by(replay, LAST, [boats, synthetic], one)[0] == [2]


def test_the_expected_loss_is_the_mean_over_the_three_lengths(tokenizer):
    real = data_of(["a b c", "d"], tokenizer)
    replay = TextReplay(real, None, 8)
    # Words a b c d, pairs ab bc, the triple abc; of these the text has a, b and ab once.
    text = data_of(["a b"], tokenizer)
    words, pairs, triples = (0.5 + 0.5 + 1 + 1) / 4, (0.5 + 1) / 2, 1.0
    _, facts = chosen_by(replay, LAST, [text], 0.99)
    assert facts["expected_loss"] == pytest.approx((words + pairs + triples) / 3)
    # Document 0 fits, and both do not.
    words, pairs, triples = (0.25 + 0.25 + 0.5 + 1) / 4, (0.25 + 0.5) / 2, 0.5
    assert facts["expected_loss_replayed"] == pytest.approx((words + pairs + triples) / 3)


def test_markup_endangers_no_document(tokenizer):
    real = data_of(["<unk> <unk> <unk>", "Ann"], tokenizer)
    replay = TextReplay(real, None, 8)
    assert chosen_by(replay, LAST, [data_of(["Ben"], tokenizer)], 0.99)[0][-1] == 1
    assert replay._items.copies.toarray().tolist() == [[0.0], [1.0]]


def test_in_a_world_items_are_tokens_without_the_special_ones():
    world = World(WorldConfig(people=3, values=3, documents=8))
    tokenizer = DocumentTokenizer(train_tokenizer(world.corpus(), vocab_size=300), append_eos=True)
    real = data_of(world.corpus(), tokenizer)
    replay = TextReplay(real, world, 8)
    assert len(replay._items.weights) > 3 * len(set(" ".join(world.corpus()).split()))
    num_tokens = len(set(real.ids.tolist()) - {tokenizer.start, tokenizer.stop})
    assert np.sum(replay._items.weights == replay._items.weights[0]) == num_tokens


def test_the_control_takes_random_documents_up_to_the_same_budget(stories):
    replay = TextReplay(stories, None, 8)
    by = Uniform(name="random")
    sets = [chosen_by(replay, by, [stories], 0.2, seed=seed) for seed in (0, 0, 1)]
    assert sets[0] == sets[1] != sets[2]
    for indices, facts in sets:
        assert indices == sorted(set(indices))
        assert 0.15 < facts["replayed_share"] <= 0.2
        assert facts.keys() == {"replayed_documents", "replayed_share"}


def test_surplexity_takes_the_documents_that_surprise_the_model_most(stories):
    class Surprised:
        def log_probs(self, rows):
            return [np.full(len(row) - 1, -float(row[0]), np.float32) for row in rows]

    replay = TextReplay(stories, None, 64)
    indices, _ = chosen_by(replay, Surplexity(name="surplexity"), [stories], 0.2, model=Surprised())
    firsts = np.array([document[0] for document in stories.documents])
    rest = np.setdiff1d(np.arange(len(stories)), indices)
    assert firsts[indices].min() >= firsts[rest].max()


def test_documents_that_no_longer_fit_are_passed_over():
    assert take_fitting([2, 0, 1], [3, 5, 4], 8).tolist() == [2, 0]
    assert take_fitting([1, 2, 0], [3, 5, 4], 8).tolist() == [1, 0]
    assert take_fitting([0, 1, 2], [3, 5, 4], 2).tolist() == []


def test_a_budget_below_the_shortest_document_is_refused(stories):
    def regime(budget):
        return Replay.model_validate({"name": "replay", "real_budget": budget, "by": {"name": "random"}})

    check_fits_replay(stories, regime(0.2))
    with pytest.raises(
        ConfigError, match=r"regime\.real_budget: 0\.001 of 468 real tokens are 0\.5, but the shortest document has 9\."
    ):
        check_fits_replay(stories, regime(0.001))


# What is measured outside


def test_replayed_documents_are_saved_with_the_text_and_parts_have_none(stories, tmp_path):
    beside = TextReplay(stories, None, 8)(
        None, [stories], by=Uniform(name="random"), budget=0.2, extinction=None, seed=0
    )
    beside.save(tmp_path)
    again = stories.read(tmp_path)
    assert again.replayed.indices.tolist() == beside.replayed.indices.tolist()
    assert again.facts == beside.facts
    assert beside.concat(stories).replayed is None is stories.replayed


def test_words_of_replayed_documents_are_left_out_of_the_coverage(tokenizer):
    real = data_of(["Ann saw Ben", "Dov had Eve", "Cleo Cleo Gus"], tokenizer)
    samples = data_of(["x Ann Dov Cleo Cleo Zoe"], tokenizer)
    samples = TokenData.from_documents(samples.documents, tokenizer, prompts=[1])
    generated = {
        1: replaying(real, [0]),
        2: replaying(real, [0]),
    }
    metrics = ReplayMeasure(real, None)(generated, {"own": samples}).metrics
    # Outside once: Dov, had, Eve, Gus, of which Dov is in the samples; twice: Cleo.
    assert metrics["own.coverage_1_outside"] == 1 / 4
    assert metrics["own.coverage_2_3_outside"] == 1.0
    assert metrics["replayed_share_so_far"] == pytest.approx(real.lengths[0] / real.units)
    more = ReplayMeasure(real, None)({**generated, 3: replaying(real, [1, 2])}, {"own": samples}).metrics
    assert more == {"replayed_share_so_far": 1.0}


def replaying(real, indices):
    return TokenData(
        real.ids, real.lengths, real.prompts, real.tokenizer, replayed=ReplayedDocuments(np.array(indices))
    )


def test_in_a_world_facts_of_replayed_documents_are_left_out():
    world = World(WorldConfig(people=4, values=4, documents=30))
    corpus = world.corpus()
    tokenizer = DocumentTokenizer(train_tokenizer(corpus, vocab_size=400), append_eos=True)
    real = data_of(corpus, tokenizer)
    measure = ReplayMeasure(real, world)
    nothing = measure({1: replaying(real, [0])}, {"own": data_of(corpus[:1], tokenizer)}).metrics
    # All that the sample states was replayed.
    assert nothing["own.rare_fact_coverage_outside"] == 0
    whole = measure({1: replaying(real, [0])}, {"own": real}).metrics
    assert whole["own.rare_fact_coverage_outside"] > 0.5
    assert whole["own.rare_facts_outside"] == nothing["own.rare_facts_outside"] > 0
