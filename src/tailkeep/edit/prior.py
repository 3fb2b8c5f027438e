"""The prior with its tokenizer, ready to work. Rule: what does not fit together is refused before any document."""

from dataclasses import dataclass
from typing import Any

from tailkeep.errors import InputError
from tailkeep.rules import Detokenizer, TextTokenizer, TokenTexts, read_token_texts
from tailkeep.scoring import CausalLMScorer, Prior, Scorer
from tailkeep.scoring.loading import load_tokenizer


@dataclass(frozen=True)
class EditPrior:
    """A scorer, its tokenizer both ways, the surfaces of its tokens, and the strings that are tokens of their own."""

    scorer: Scorer
    tokenizer: TextTokenizer
    detokenize: Detokenizer
    surfaces: TokenTexts
    literals: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """What can change a score or a token, as plain values for a fingerprint."""
        return {"prior": self.scorer.identity(), "tokenizer": self.surfaces.fingerprint}


def load_model(prior: Prior) -> EditPrior:
    """`prior` and its tokenizer.

    Raises:
        InputError: one cannot be found or read, or they do not belong together.
        ConfigError: a device that is not there.
    """
    scorer = CausalLMScorer(prior)
    tokenizer = load_tokenizer(scorer.folder, trust_remote_code=prior.trust_remote_code)
    surfaces = read_token_texts(tokenizer)
    if len(surfaces.texts) > scorer.vocab_size:
        raise InputError(
            f"prior.path: the tokenizer has {len(surfaces.texts)} ids, the model's embedding {scorer.vocab_size}. "
            "Give a folder with the tokenizer that belongs to the model."
        )
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    literals = tuple(sorted(token.content for token in added))
    return EditPrior(scorer, TextTokenizer(tokenizer), Detokenizer(tokenizer, surfaces), surfaces, literals)
