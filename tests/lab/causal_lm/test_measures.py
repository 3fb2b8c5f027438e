import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tailkeep.data import Question
from tailkeep.lab.causal_lm.config import Generation
from tailkeep.lab.causal_lm.kr_eval import KREvaluator
from tailkeep.lab.causal_lm.measures import TextMeasure, cut_pieces, generated_texts, nll_by_document
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, train_tokenizer
from tailkeep.lab.causal_lm.tokens import TokenData, first_targets, training_rows
from tailkeep.metrics.language import language_panel
from tailkeep.scoring import encode_question
from tests.lab.causal_lm.tiny import STORIES


def uniform(network):
    with torch.no_grad():
        network.lm_head.weight.zero_()
    return network


def model_of(network, tokenizer, stories):
    return LanguageModel(network, tokenizer, Generation(), stories)


def measure_of(stories, *, questions=(), truth=None, block=8):
    return TextMeasure(stories, stories.take(np.arange(10)), KREvaluator(questions), truth, block, joined=False)


def samples_of(stories, prompt=2):
    return TokenData.from_documents(stories.documents[:6], stories.tokenizer, prompts=[prompt] * 6)


def test_a_model_that_knows_nothing_has_the_logarithm_of_its_vocabulary(network, tokenizer, stories):
    measured = measure_of(stories)(model_of(uniform(network), tokenizer, stories), {"common": samples_of(stories)})
    size = tokenizer.size
    assert measured.metrics["held_out_nll"] == pytest.approx(math.log(size), rel=1e-5)
    assert measured.metrics["common.own_perplexity"] == pytest.approx(size, rel=1e-4)
    assert measured.metrics["held_out_above_90"] == 0
    table = measured.tables["confidence"]
    logit = -math.log(size - 1)
    edges = table["logit_edges"]
    (bin_,) = np.flatnonzero(table["real"])
    assert edges[bin_] <= logit < edges[bin_ + 1]


def test_each_view_is_measured_under_its_own_name(network, tokenizer, stories):
    samples = {"common": samples_of(stories), "own": samples_of(stories.take(np.arange(10, 20)))}
    both = measure_of(stories)(model_of(network, tokenizer, stories), samples)
    one = measure_of(stories)(model_of(network, tokenizer, stories), {"common": samples["common"]})
    names = {name.split(".")[1] for name in both.metrics if name.startswith("common.")}
    assert names == {name.split(".")[1] for name in both.metrics if name.startswith("own.")}
    assert names >= {"own_perplexity", "kl_sample_real", "kl_real_sample", "distinct_1", "distinct_4", "mean_length"}
    assert one.metrics == {name: value for name, value in both.metrics.items() if not name.startswith("own.")}


def test_what_was_given_is_not_measured_as_written(network, tokenizer, stories):
    # The prompts are all one word, the continuations another: only the second may count.
    word, other = tokenizer.encode_without_eos("cat")[-1], tokenizer.encode_without_eos("boat")[-1]
    tokens = TokenData.from_documents(
        [np.array([0, word, word, other, other], np.int32)] * 3, tokenizer, prompts=[3] * 3
    )
    measured = measure_of(stories)(model_of(network, tokenizer, stories), {"common": tokens})
    assert measured.metrics["common.mean_length"] == 2
    assert measured.metrics["common.distinct_1"] == pytest.approx(1 / 6)
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([[0, word, word, other]]).long()).logits[0].double()
    log_p = logits.log_softmax(-1)[2:, other]
    assert measured.metrics["common.own_perplexity"] == pytest.approx(float((-log_p.mean()).exp()), rel=1e-4)


def test_a_truth_that_is_known_is_asked_about_every_view(network, tokenizer, stories):
    scored_rows = []

    def truth(texts):
        scored_rows.append(list(texts))
        return {"coverage": 0.5}

    samples = {"common": samples_of(stories), "own": samples_of(stories)}
    measured = measure_of(stories, truth=truth)(model_of(network, tokenizer, stories), samples)
    assert measured.metrics["common.coverage"] == measured.metrics["own.coverage"] == 0.5
    assert scored_rows == [STORIES[:6], STORIES[:6]]


def test_the_context_ends_where_the_sentences_begin(tokenizer):
    question = Question("Ann saw a red", "cat.", "boat.")
    context, true, false = encode_question(question, tokenizer.encode_without_eos)
    assert tokenizer.decode(true[:context]) == tokenizer.decode(false[:context]) == "Ann saw a red"
    assert tokenizer.decode(true[context:]) == " cat."
    assert tokenizer.decode(false[context:]) == " boat."


def test_a_stop_token_is_not_part_of_a_sentence(tokenizer):
    _, true, false = encode_question(Question("Ann saw", "a cat.", "a little boat."), tokenizer.encode_without_eos)
    assert tokenizer.stop not in true
    assert tokenizer.stop not in false


def test_a_token_that_spans_the_join_belongs_to_the_sentence():
    text = ["go to now x"] * 50 + ["a to b to c"] * 50
    tokenizer = DocumentTokenizer(train_tokenizer(text, vocab_size=300), append_eos=True)
    # " to" is one token, so a context that ends in a space is cut where its last token becomes part of the sentence.
    question = Question("go ", "to now", "x now")
    context, true, false = encode_question(question, tokenizer.encode_without_eos)
    assert true[:context].tolist() == false[:context].tolist()
    assert tokenizer.decode(true[context:]).strip() == "to now"
    assert tokenizer.decode(false[context:]).strip() == "x now"


def test_a_context_that_is_empty_leaves_the_start_token(tokenizer):
    context, true, false = encode_question(Question("", "Ann", "Ben"), tokenizer.encode_without_eos)
    assert context == 1
    assert true[0] == false[0] == tokenizer.start


def knowing(network, tokenizer, word, *, rather_than):
    """A model to which the tokens of `word` are always likelier than those of another."""
    ids = set(tokenizer.encode_without_eos(word).tolist()) - set(tokenizer.encode_without_eos(rather_than).tolist())
    with torch.no_grad():
        network.model.norm.weight.fill_(0.0)
        network.lm_head = torch.nn.Linear(16, tokenizer.size)
        network.lm_head.weight.zero_()
        network.lm_head.bias.zero_()
        network.lm_head.bias[sorted(ids)] = 5.0
    return network


def test_a_model_that_knows_the_answers_is_right_and_its_opposite_wrong(network, tokenizer, stories):
    questions = [Question(f"{name} saw a red", "cat", "boat") for name in ("Ann", "Ben", "Cleo")]
    samples = {"common": samples_of(stories)}
    measure = measure_of(stories, questions=questions)
    cats = knowing(network, tokenizer, "a red cat", rather_than="a red boat")
    right = measure(model_of(cats, tokenizer, stories), samples)
    boats = knowing(network, tokenizer, "a red boat", rather_than="a red cat")
    wrong = measure(model_of(boats, tokenizer, stories), samples)
    assert right.metrics["kr_accuracy"] == 1
    assert wrong.metrics["kr_accuracy"] == 0
    assert right.metrics["kr_items"] == 3


def test_a_model_that_cannot_tell_is_half_right(network, tokenizer, stories):
    questions = [Question("Ann saw a red", "cat", "boat")]
    measured = measure_of(stories, questions=questions)(
        model_of(uniform(network), tokenizer, stories), {"common": samples_of(stories)}
    )
    assert measured.metrics["kr_accuracy"] == 0.5


def test_without_questions_there_is_no_accuracy(network, tokenizer, stories):
    measured = measure_of(stories)(model_of(network, tokenizer, stories), {"common": samples_of(stories)})
    assert not [name for name in measured.metrics if name.startswith("kr_")]


def test_a_text_that_is_the_real_one_does_not_diverge_from_it(network, tokenizer, stories):
    whole = TokenData.from_documents(stories.documents, tokenizer)
    measured = measure_of(stories)(model_of(network, tokenizer, stories), {"common": whole})
    assert measured.metrics["common.kl_sample_real"] == pytest.approx(0, abs=1e-9)
    assert measured.metrics["common.kl_real_sample"] == pytest.approx(0, abs=1e-9)


def test_the_tempered_nll_of_a_model_that_is_too_sure_is_lower_and_of_a_uniform_one_the_same(
    network, tokenizer, stories
):
    measure, samples = measure_of(stories), {"common": samples_of(stories)}
    sure = measure(model_of(network, tokenizer, stories), samples).metrics
    assert sure["temperature"] > 1
    assert sure["held_out_nll_tempered"] < sure["held_out_nll"]
    flat = measure(model_of(uniform(network), tokenizer, stories), samples).metrics
    assert flat["held_out_nll_tempered"] == pytest.approx(flat["held_out_nll"], rel=1e-6)


def test_ngrams_are_compared_at_equal_counts_and_beside_held_out_text(network, tokenizer, stories):
    measured = measure_of(stories)(model_of(network, tokenizer, stories), {"common": samples_of(stories)}).metrics
    for n in (1, 2, 3, 4):
        assert measured[f"common.kl_{n}_sample_real"] >= 0
        assert measured[f"common.kl_{n}_real_sample"] >= 0
    # Ten held-out documents hold more than six samples without their prompts.
    assert measured["common.kl_1_real_sample_expected"] >= 0


def test_the_whole_real_text_covers_every_band(network, tokenizer, stories):
    whole = TokenData.from_documents(stories.documents, tokenizer)
    measured = measure_of(stories)(model_of(network, tokenizer, stories), {"common": whole}).metrics
    bands = {name: value for name, value in measured.items() if name.startswith("common.coverage_")}
    assert bands
    assert set(bands.values()) == {1.0}


@pytest.mark.parametrize("prompt", [2, 100])
def test_people_are_counted_by_the_documents_that_name_them_beyond_their_prompts(network, tokenizer, stories, prompt):
    def people(texts):
        return np.array([sum("cat" in text for text in texts), 0])

    prompts = [min(prompt, len(document)) for document in stories.documents[:6]]
    samples = TokenData.from_documents(stories.documents[:6], stories.tokenizer, prompts=prompts)
    measured = replace(measure_of(stories, truth=lambda _: {}), people=people)(
        model_of(network, tokenizer, stories), {"common": samples}
    )
    # A model that writes nothing names nobody, whatever its prompts say.
    named = sum("cat" in text for text in STORIES[:6]) if prompt == 2 else 0
    assert measured.tables["tail"]["kind"] == "people"
    assert measured.tables["tail"]["counts"] == [named, 0]
    # Real documents are counted beyond as many tokens.
    assert measured.tables["tail"]["real"] == [sum("cat" in text for text in STORIES) if prompt == 2 else 0, 0]
    assert measured.metrics["common.people_named"] == (named > 0)
    assert measured.metrics["common.people_total"] == 2


def test_without_a_world_the_tail_is_words_by_frequency(network, tokenizer, stories):
    measured = measure_of(stories)(model_of(network, tokenizer, stories), {"common": samples_of(stories)})
    tail = measured.tables["tail"]
    assert tail["kind"] == "words"
    assert all(0 <= count <= types for count, types in zip(tail["counts"], tail["real"], strict=True))
    for name, count, types in zip(tail["names"], tail["counts"], tail["real"], strict=True):
        assert count == pytest.approx(measured.metrics[f"common.coverage_{name}"] * types)


@pytest.mark.parametrize("joined", [True, False])
def test_the_nll_per_document_adds_up_and_belongs_to_its_document(tokenizer, joined):
    lengths, prompts = [3, 1, 20, 2], [0, 0, 5, 0]
    documents = [np.full(length, number, np.int32) for number, length in enumerate(lengths)]
    data = TokenData.from_documents(documents, tokenizer, prompts=prompts)
    rows = training_rows(data, block=4, joined=joined)
    log_probs = np.concatenate([-row[1:].astype(np.float32) for row in rows])
    table = nll_by_document(log_probs, data, joined=joined, answers=False)
    assert table["tokens"] == ([2, 1, 20, 2] if joined else [2, 0, 19, 1])
    # ln p is the negative of the document's number.
    assert table["nll"] == [number * count for number, count in enumerate(table["tokens"])]


def test_the_nll_per_document_leaves_prompts_out(tokenizer):
    documents = [np.arange(12, dtype=np.int32), np.arange(3, dtype=np.int32)]
    data = TokenData.from_documents(documents, tokenizer, prompts=[5, 1])
    rows = zip(training_rows(data, block=4, joined=False), first_targets(data, block=4), strict=True)
    log_probs = np.concatenate([-row[first:].astype(np.float32) for row, first in rows])
    table = nll_by_document(log_probs, data, joined=False, answers=True)
    assert table["tokens"] == [7, 2]
    assert table["nll"] == [sum(range(5, 12)), 3.0]


def test_the_panel_of_english_is_that_of_the_samples_beside_held_out_text(network, tokenizer, stories):
    samples, model = {"common": samples_of(stories)}, model_of(network, tokenizer, stories)
    measured = replace(measure_of(stories), language=True)(model, samples).metrics
    texts = [text for text, _ in generated_texts(samples["common"])]
    panel = {name.removeprefix("common.language_"): value for name, value in measured.items() if "language_" in name}
    assert {name: panel[name] for name in language_panel(texts)} == language_panel(texts)
    assert {f"{name}_expected" for name in language_panel(texts)} == {n for n in panel if n.endswith("_expected")}
    assert panel["word_length_expected"] > 1
    assert not any("language_" in name for name in measure_of(stories)(model, samples).metrics)


def test_pieces_have_the_words_they_are_asked_for_and_what_lies_between():
    assert cut_pieces("a  b\n\nc d e", 2) == ["a  b", "c d"]
    assert cut_pieces("a", 2) == []


@pytest.mark.parametrize("prompt", [1, 2, 4])
def test_samples_are_compared_with_real_text_in_their_place(network, tokenizer, stories, prompt):
    """A perfect model writes the real documents: nothing is lost, whatever was its prompt and its start token."""
    samples = TokenData.from_documents(stories.documents, tokenizer, prompts=[prompt] * len(stories))
    metrics = measure_of(stories)(model_of(network, tokenizer, stories), {"common": samples}).metrics
    # The common view's tokens are those of the real documents behind their first ones.
    assert metrics["common.kl_real_sample"] == pytest.approx(0, abs=1e-9)
    assert metrics["common.kl_1_real_sample"] <= metrics["common.kl_1_real_sample_expected"]


def test_a_prompt_that_ends_inside_a_character_is_no_generated_text(stories):
    """Byte-level tokens of an accent: the prompt ends within it, and only what follows was generated."""
    tokenizer = DocumentTokenizer(train_tokenizer(["the dog ate"] * 20, vocab_size=300), append_eos=True)
    (document,) = [tokenizer.encode_without_eos("the dog é ate the fish")]
    ends = [n for n in range(1, len(document)) if tokenizer.decode(document[:n]).endswith("\ufffd")]
    assert ends
    data = TokenData.from_documents([document], tokenizer, prompts=[ends[0]])
    ((text, before),) = generated_texts(data)
    assert (text, before) == ("é ate the fish", " ")
