"""How much weight the literature gives real data beside synthetic data.

Rule: each figure has its source and what it assumes; the audit's own figures stand beside them and change none.
"""

from dataclasses import dataclass

from tailkeep.metrics import golden_weight

_FEW = 1024


@dataclass(frozen=True)
class Advice:
    """What one source says.

    Attributes:
        rule: in words.
        real_weight: the share of the training weight that real data get, None if it gives none.
        repeats: how often each real item is then seen when each synthetic one is seen once.
        source: the paper.
        assumes: under what it holds.
    """

    rule: str
    real_weight: float | None
    repeats: float | None
    source: str
    assumes: str


def plan(real: float, synthetic: float, *, examples: int | None = None) -> list[Advice]:
    """The weights that the literature supports for `real` and `synthetic` data, both in one unit.

    Args:
        real, synthetic: how much there is of each, such as in words.
        examples: how many documents the real data are, if it is known.
    """
    ratio = real / synthetic
    return [
        _advice(
            f"weight real data by the golden-ratio rule, for n_real / n_synthetic = {ratio:.3g}",
            golden_weight(ratio),
            ratio,
            "He, Xu and Cheng 2025 (arXiv 2502.18049)",
            "each generation is trained on fresh real data and on what the last one wrote; derived for estimating a "
            "mean and for linear models, not for language models",
        ),
        _advice(
            "keep all real data and add the synthetic, each item once",
            real / (real + synthetic),
            ratio,
            "Gerstgrasser et al. 2024 (arXiv 2404.01413)",
            "data accumulate over generations: the error then stays bounded, at pi^2 / 6 of that of the first "
            "generation in linear models. It is no claim that synthetic data help",
        ),
        _advice(
            "about 30 % rephrased synthetic text",
            0.7,
            ratio,
            "Demystifying Synthetic Data 2025 (arXiv 2510.01631)",
            "language models trained from scratch on rephrased web text; text in the style of textbooks did worse, and "
            "a share found on one corpus need not be that of another",
        ),
        _advice(
            "at most a quarter synthetic text",
            0.75,
            ratio,
            "Zhu et al. 2024, ToEdit (arXiv 2412.14689), GPT-2 124M from scratch on Dolma and Cosmopedia",
            "the smallest share that was tried: perplexity on 22 domains 22.06 against 20.99 without, 23.48 at one "
            "half and 51.93 with synthetic text alone; synthetic text from prompts, one seed",
        ),
        Advice(
            _few_or_many(examples),
            None if examples is None or examples <= _FEW else 1.0,
            None,
            "Kazdan et al. 2024, Collapse or Thrive (arXiv 2410.16713)",
            "supervised fine-tuning of a 2-billion model, sizes counted in examples: at about 1,024 real examples the "
            "sign of the effect changed",
        ),
        Advice(
            "any fixed share of synthetic data, even .1 %, ends the gains from more data",
            1.0,
            None,
            "Dohmatob et al. 2024, Strong Model Collapse (arXiv 2410.04840)",
            "random-feature and linear regression in the limit of much data, synthetic data of a fixed other "
            "distribution",
        ),
    ]


def _advice(rule: str, weight: float, ratio: float, source: str, assumes: str) -> Advice:
    return Advice(rule, weight, weight / (1 - weight) / ratio, source, assumes)


def _few_or_many(examples: int | None) -> str:
    if examples is None:
        return (
            f"up to about {_FEW:,} real examples some synthetic ones may help; beyond, leaving them out may be better"
        )
    if examples <= _FEW:
        return f"with {examples:,} real examples, some synthetic ones may help"
    return (
        f"with {examples:,} real examples, leaving out the synthetic ones may be better than ten times more real data"
    )
