"""The selectors of the regimes `select` and `replay`: what makes one document count more than another.

Rule: a selector of `select` weights candidates and does nothing else; one of `replay` says which real documents fill
the budget. How many are generated, or replayed, is the same for all: `random` is the control of every other.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from tailkeep.config import Settings, UserCode, as_code


class Uniform(Settings):
    """Every document counts alike: the control, with as many candidates, or as large a budget."""

    name: Literal["random"]
    max_repeats: ClassVar[int] = 1


class Surplexity(Settings):
    """The documents that surprise the newest model most: the highest mean -ln p behind their prompts.

    Gambetta et al. 2024 (arXiv 2410.12341). In `select` they are its own text, in `replay` the real one; where weights
    are inherited it is also the model that is trained next. Nothing is sampled: the highest are taken.
    """

    name: Literal["surplexity"]
    max_repeats: ClassVar[int] = 1


class DSIR(Settings):
    """Importance resampling by hashed words and pairs of words: p(x) / q(x), p of the real training text.

    Xie et al. 2023 (arXiv 2302.03169); q is counted in the candidates. Sampled without replacement, as there.
    """

    name: Literal["dsir"]
    max_repeats: ClassVar[int] = 1


class Verifier(Settings):
    """What a verifier accepts: documents of the embedded world that state nothing but what is true, in its grammar.

    Feng et al. 2024 (arXiv 2406.07515): a verifier that errs can be enough. `error_rate` is the chance that a verdict
    is wrong, whether the document is right or not. If none is accepted, all count alike, and `accepted_share` is 0.

    `bias`, for comparison: what the verifier likes less it accepts less often, however true. `people`: a sentence
    counts in proportion to how often the world mentions its person; `phrasing`: only one in the most frequent phrasing
    of its attribute counts; a document has the mean over its sentences. A recursion converges to what its verifier
    likes (arXiv 2510.16657), and a biased reference hastens the collapse (arXiv 2606.13732).
    """

    name: Literal["verifier"]
    error_rate: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    bias: Literal["people", "phrasing"] | None = None
    max_repeats: ClassVar[int] = 1


class Detector(Settings):
    """What a detector of machine text takes for real: the weight (1 - q)^`exponent`, q its probability of machine text.

    Drayson et al. 2025 (exponent 10, a document taken at most 3 times, there with a large detector trained beforehand).
    Here it is a logistic regression on hashed words and pairs of words, fitted again in each generation to separate the
    candidates from the real training text, and applied to texts that it was not fitted on.

    Attributes:
        max_repeats: how often a document is taken at most.
    """

    name: Literal["detector"]
    exponent: Annotated[float, Field(gt=0, le=100)] = 10.0
    max_repeats: Annotated[int, Field(ge=1, le=10)] = 3


class CodeSelector(UserCode):
    """A selector of the user's own: weigh(texts, real_texts, options...) -> a weight of 0 or more for each text."""

    leading: ClassVar[int] = 2
    max_repeats: ClassVar[int] = 1


Selector = Annotated[
    Annotated[
        Uniform | Surplexity | DSIR | Verifier | Detector | CodeSelector,
        Field(discriminator="name"),
    ],
    BeforeValidator(as_code),
]


class Extinction(Settings):
    """The real documents that prevent the most expected loss per token, for the regime `replay`.

    Items are the words, pairs and triples of words that the real text has; mark-up such as `<unk>` is none. In the
    embedded world they are tokens instead. An item with s copies in the synthetic text and k in the replayed documents
    is lost by the text of round `until` with the probability of drift alone (`metrics.theory.replay`). Documents are
    taken one by one; what is replayed already counts less. Round g is what model g - 1 generates, so the text of the
    last of n models is round n.
    """

    name: Literal["extinction"]
    until: Annotated[int, Field(ge=2)]


ReplaySelector = Annotated[Uniform | Surplexity | Extinction, Field(discriminator="name")]
