"""Multiple choice by likelihood: accuracy, the log-odds of the right answer, and macro-averaged F1."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp


def choice_credit(log_probs: ArrayLike, gold: int) -> float:
    """1 if choice `gold` of (choices,) is the most likely, its share of a tie for that, 0 otherwise."""
    scores = _scores(log_probs, gold)
    best = np.flatnonzero(scores == scores.max())
    return 1 / len(best) if gold in best else 0.0


def choice_log_odds(log_probs: ArrayLike, gold: int) -> float:
    """ln p - ln(1 - p) in nats, where p is the share of choice `gold` in the probability of all choices (choices,).

    0 where it is as likely as all the others together; unlike accuracy it moves with every change of the model.
    """
    scores = _scores(log_probs, gold)
    return float(scores[gold] - logsumexp(np.delete(scores, gold)))


def macro_f1(predicted: ArrayLike, gold: ArrayLike) -> float:
    """The mean, over the classes that occur in either, of F1 = 2 TP / (2 TP + FP + FN); both (n,) of class numbers.

    Raises:
        ValueError: the lengths differ or there are no items.
    """
    guesses, truths = np.asarray(predicted).ravel(), np.asarray(gold).ravel()
    if guesses.size != truths.size or guesses.size == 0:
        raise ValueError(f"{guesses.size} predictions for {truths.size} items. Pass one for each, at least one.")
    scores = []
    for label in np.union1d(guesses, truths):
        hits = int(np.sum((guesses == label) & (truths == label)))
        scores.append(2 * hits / (int(np.sum(guesses == label)) + int(np.sum(truths == label))))
    return math.fsum(scores) / len(scores)


def _scores(log_probs: ArrayLike, gold: int) -> NDArray[np.float64]:
    scores = np.asarray(log_probs, dtype=np.float64).ravel()
    if scores.size < 2 or not 0 <= gold < scores.size:
        raise ValueError(f"choice {gold} of {scores.size}. Pass at least two choices and the index of one of them.")
    return scores
