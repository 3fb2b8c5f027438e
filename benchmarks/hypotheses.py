"""H1 and H2 of docs/replication.md by their preregistered rules, from runs of the recipe `fortifai-fig6` or packs.

python benchmarks/hypotheses.py RUN [RUN ...]

The runs are joined: arms and seeds may stand in different ones. Prints what truncation kept of the tokens in each
round, the time to failure of each arm, by half of the standardised margin d' of round 0 and by an accuracy of 0.75,
and how H1 and H2 stand. Rule: seeds that have all rounds of both arms are averaged, articles are resampled, and
p-values are those before Holm's correction, which runs over all hypotheses of the page.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from margins import SHARE, Round, read_rounds
from numpy.typing import NDArray

from tailkeep.metrics import (
    Failure,
    compare_standardised_margins,
    mean_standardised_margin,
    resampled_failure_times,
    standardised_margin_failure,
    time_to_failure,
)

BASELINE, TRUNCATED, STOP = "baseline", "truncated-0.99", "stop"
ROUNDS = 5
"""Round 0 and the four after it."""
ACCURACY = 0.75
LEVEL = 0.05
FEW, MANY = 0.02, 0.9
"""Shares of kept tokens: below the first truncation is no training, above the second it is cross-entropy."""
Chains = Mapping[tuple[str, int], Sequence[Round]]
"""(arm, seed) -> its rounds."""


def read_chains(runs: Sequence[Path]) -> dict[tuple[str, int], list[Round]]:
    """The rounds of every arm and seed that one of `runs` has."""
    chains: dict[tuple[str, int], list[Round]] = {}
    for run in runs:
        for seed in sorted({int(path.name) for path in run.glob("cells/*/*") if path.name.isdigit()}):
            found: dict[str, list[Round]] = {}
            for (arm, number), this in sorted(read_rounds(run, seed).items()):
                if number != len(found.setdefault(arm, [])):
                    sys.exit(f"{run}: {arm}, seed {seed} has no round {len(found[arm])}. Give a run that has it.")
                found[arm].append(this)
            for arm, rounds in found.items():
                if chains.setdefault((arm, seed), rounds) is not rounds:
                    sys.exit(f"{run} has {arm}, seed {seed}, as a run before has. Give one of them.")
    return chains


def margins_of(chains: Chains, arm: str, seeds: Sequence[int]) -> NDArray[np.float64]:
    """(seeds, rounds, questions)."""
    return np.array([[this.margins for this in chains[arm, seed]] for seed in seeds])


def common_seeds(chains: Chains, *arms: str) -> list[int]:
    """The seeds that have all of `arms` with all rounds."""
    return sorted({seed for _, seed in chains if all(len(chains.get((arm, seed), ())) >= ROUNDS for arm in arms)})


def chain_lines(chains: Chains) -> Iterator[str]:
    """A row per chain: tokens kept by round, times to failure."""
    yield "| arm | seed | tokens kept, by round | fails by half of d' (95 % CI) | by accuracy 0.75 |"
    yield "|---|---|---|---|---|"
    for (arm, seed), rounds in sorted(chains.items()):
        kept = ", ".join(f"{this.metrics['kept_fraction']:.3f}" for this in rounds)
        numbers, articles = list(range(len(rounds))), rounds[0].articles
        half = standardised_margin_failure(numbers, margins_of(chains, arm, [seed])[0], articles)
        correct = time_to_failure(numbers, [this.metrics["kr_accuracy"] for this in rounds], limit=ACCURACY)
        interval = f"{half.low:.1f} to {half.high:.1f}".replace("inf", "never")
        yield f"| {arm} | {seed} | {kept} | {_time(half.failure)} ({interval}) | {_time(correct)} |"


def _time(failure: Failure) -> str:
    return {"failed": f"{failure.time:.1f}", "censored": f"> {failure.time:.0f}"}.get(failure.state, "undefined")


def kept_share(chains: Chains, seeds: Sequence[int]) -> float:
    """The mean share of tokens that truncation kept in the rounds after round 0."""
    rounds = [this for seed in seeds for this in chains[TRUNCATED, seed][1:]]
    return float(np.mean([this.metrics["kept_fraction"] for this in rounds]))


def h1_line(chains: Chains) -> str:
    """Whether the time to failure of 0.99 is at least twice the baseline's, by half of d' of round 0."""
    if not (seeds := common_seeds(chains, BASELINE, TRUNCATED)):
        return f"H1: no seed has all rounds of {BASELINE} and {TRUNCATED}."
    of_seeds = f"H1 (seeds {', '.join(map(str, seeds))})"
    kept = kept_share(chains, seeds)
    if kept > MANY:
        return f"{of_seeds}: not tested, since truncation kept {kept:.3f} of the tokens: the arms are the same."
    if kept < FEW:
        return f"{of_seeds}: true by not training, since truncation kept {kept:.3f} of the tokens. H2 decides."
    articles = chains[BASELINE, seeds[0]][0].articles
    tables = [margins_of(chains, arm, seeds) for arm in (BASELINE, TRUNCATED)]
    rounds = range(tables[0].shape[1])
    points = [standardised_margin_failure(rounds, table, articles).failure for table in tables]
    base, late = (point.time if point.state == "failed" else np.inf for point in points)
    base_times, late_times = (resampled_failure_times(rounds, table, articles) for table in tables)
    # Four rounds show twice a time only up to two. A failure of 0.99 before twice the baseline's time speaks against.
    speak_for = (base_times <= (ROUNDS - 1) / 2) & (late_times >= 2 * base_times)
    speak_against = late_times < 2 * np.minimum(base_times, ROUNDS - 1)
    p_values = [(1 + int((~votes).sum())) / (1 + len(base_times)) for votes in (speak_for, speak_against)]
    state = "holds" if p_values[0] < LEVEL else "does not hold" if p_values[1] < LEVEL else "undecided"
    return (
        f"{of_seeds}: {state}: {_number(base)} rounds for {BASELINE}, {_number(late)} for {TRUNCATED}; p of H1 "
        f"{p_values[0]:.4f}, of its contrary {p_values[1]:.4f}."
    )


def _number(time: float) -> str:
    return "never" if np.isinf(time) else f"{time:.1f}"


def h2_lines(chains: Chains) -> Iterator[str]:
    """Whether 0.99 equals `stop`: the mean difference in d' over all later rounds is within a tenth of round 0's d'."""
    if not (seeds := common_seeds(chains, TRUNCATED, STOP, BASELINE)):
        yield f"H2: no seed has all rounds of {TRUNCATED}, {STOP} and {BASELINE}."
        return
    first = margins_of(chains, BASELINE, seeds)
    bound = SHARE * mean_standardised_margin(first[:, 0])
    articles = chains[BASELINE, seeds[0]][0].articles
    for arm, rival in ((TRUNCATED, STOP), (TRUNCATED, BASELINE), (STOP, BASELINE)):
        pair = [margins_of(chains, name, seeds)[:, 1:].reshape(-1, first.shape[2]) for name in (arm, rival)]
        compared = compare_standardised_margins(*pair, articles, bound=bound)
        assert compared.equivalence is not None
        inner, outer = compared.equivalence.difference, compared.difference
        beyond = inner.low > bound or inner.high < -bound
        verdict = "holds" if compared.equivalence.p_value < LEVEL else "does not hold" if beyond else "undecided"
        name = f"H2 (seeds {', '.join(map(str, seeds))}): {verdict}" if rival == STOP else "Exploratory"
        yield (
            f"{name}: {arm} minus {rival}, mean of rounds after 0: {inner.mean:+.3f}, 90 % CI {inner.low:+.3f} to "
            f"{inner.high:+.3f}, 95 % CI {outer.low:+.3f} to {outer.high:+.3f}, bound {bound:.3f}, p of TOST "
            f"{compared.equivalence.p_value:.4f}, p of no difference {compared.p_value:.4f}."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and how H1 and H2 stand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    chains = read_chains(parser.parse_args(arguments).runs)
    if not chains:
        sys.exit("no run has questions. Give runs of the recipe fortifai-fig6.")
    print("\n".join(chain_lines(chains)), end="\n\n")
    print("\n".join((h1_line(chains), *h2_lines(chains))))


if __name__ == "__main__":
    main()
