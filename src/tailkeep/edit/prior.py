"""The prior of an edit: a scorer with its tokenizer. Rule: a mismatch is an error before the first document."""

from dataclasses import dataclass
from typing import Any

from tailkeep.errors import InputError
from tailkeep.rules import Detokenizer, TextTokenizer, TokenTexts, read_token_texts
from tailkeep.scoring import CausalLMScorer, Prior, Scorer
from tailkeep.scoring.loading import load_tokenizer


@dataclass(frozen=True)
class EditPrior:
    """A scorer, its tokenizer and detokenizer, the texts of its tokens, and the strings of its added tokens."""

    scorer: Scorer
    tokenizer: TextTokenizer
    detokenize: Detokenizer
    token_texts: TokenTexts
    literals: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """All that can change a score or a token, as plain values for a fingerprint."""
        return {"prior": self.scorer.identity(), "tokenizer": self.token_texts.fingerprint}


def load_model(prior: Prior) -> EditPrior:
    """Load `prior` and its tokenizer.

    Raises:
        InputError: one cannot be found or read, or they do not match.
        ConfigError: the device does not exist.
    """
    scorer = CausalLMScorer(prior)
    tokenizer = load_tokenizer(scorer.folder, trust_remote_code=prior.trust_remote_code)
    token_texts = read_token_texts(tokenizer)
    if len(token_texts.texts) > scorer.vocab_size:
        raise InputError(
            f"prior.path: the tokenizer has {len(token_texts.texts)} ids, the model's embedding {scorer.vocab_size}. "
            "Give a folder with the tokenizer of the model."
        )
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    literals = tuple(sorted(token.content for token in added))
    return EditPrior(scorer, TextTokenizer(tokenizer), Detokenizer(tokenizer, token_texts), token_texts, literals)
