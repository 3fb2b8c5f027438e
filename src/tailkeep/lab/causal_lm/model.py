"""A language model of one generation: how it writes documents, regenerates a text, and is kept on disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailkeep.lab.causal_lm.codec import Codec, Ids
from tailkeep.lab.causal_lm.decoding import continue_prompts
from tailkeep.lab.causal_lm.editing import edit_tokens
from tailkeep.lab.causal_lm.settings import AnyDecoder, Documents, Matched, Windows, Writing
from tailkeep.lab.causal_lm.tokens import Tokens
from tailkeep.rules import Rule, Sampler
from tailkeep.scoring import token_log_probs
from tailkeep.scoring.quiet import quiet_transformers

DECODER_TEMPERATURE = "decoder_temperature"
"""The fact that holds what the decoder `matched` was matched to."""


@dataclass(frozen=True)
class LanguageModel:
    """A trained network with the way its arm lets it write. `prompts` are real documents to begin from.

    `facts` hold `decoder_temperature` if the arm's decoder is `matched`: it is sought once, when training ends.
    """

    network: Any
    codec: Codec
    writing: Writing
    prompts: Tokens
    facts: Mapping[str, float] = field(default_factory=dict)

    def sample(self, n: int, *, seed: int) -> Tokens:
        """`n` documents, each begun by the first tokens of a real one drawn at random.

        In the form `windows` the drawn documents are joined and rewritten window by window.
        """
        rng = np.random.default_rng(seed)
        drawn = self.prompts.take(rng.choice(len(self.prompts), size=n, replace=n > len(self.prompts)))
        return self.regenerate(drawn, seed=seed)

    def regenerate(self, data: Tokens, *, seed: int) -> Tokens:
        """`data` written anew: document by document behind its first tokens, or window by window."""
        match self.writing.form:
            case Documents() as form:
                starts = [document[: max(1, min(form.prompt_tokens, len(document) - 1))] for document in data.documents]
                return self.complete(starts, self.writing.decoder, new_tokens=form.new_tokens, seed=seed)
            case Windows() as form:
                return data.like(self._rewrite(data.ids, form, seed))

    def edit(self, data: Tokens, *, rule: Rule, sampler: Sampler, seed: int) -> Tokens:
        """`data` with the tokens that `rule` flags drawn anew; see `editing`."""
        return edit_tokens(self.network, data, rule=rule, sampler=sampler, seed=seed)

    def complete(
        self,
        starts: list[Ids],
        decoder: AnyDecoder,
        *,
        new_tokens: int,
        seed: int,
        batch: int | None = None,
        stops: bool = True,
    ) -> Tokens:
        """Each start with the model's continuation: `new_tokens`, or fewer if it `stops` at the stop token.

        `batch` is that of the arm's writing if not given; the draws depend on it.
        """
        written = self._continue(starts, decoder, new_tokens, seed, stops=stops, batch=batch)
        documents = [np.concatenate([start, tail]) for start, tail in zip(starts, written, strict=True)]
        return Tokens.of(documents, self.codec, prompts=[len(start) for start in starts])

    def log_probs(self, rows: Sequence[Ids]) -> list[NDArray[np.float32]]:
        """ln p of every token of each row but the first; see `scoring.token_log_probs`."""
        return token_log_probs(self.network, rows, pad=self.codec.pad)

    def save(self, folder: Path) -> None:
        """Write safetensors weights, configuration, tokenizer and `facts.json`: a Hugging Face model folder."""
        with quiet_transformers():
            self.network.save_pretrained(folder)
            self.codec.save(folder)
        (folder / "facts.json").write_text(json.dumps(dict(self.facts)), encoding="utf-8")

    def _rewrite(self, ids: Ids, form: Windows, seed: int) -> Ids:
        """The text window by window, each prompted by the original text before it (ForTIFAI, section on experiments).

        The first token is kept, since nothing stands before it; windows near the start have the context there is.
        """
        firsts = range(1, len(ids), form.new_tokens)
        contexts = [ids[max(0, first - form.context) : first] for first in firsts]
        windows = self._continue(contexts, self.writing.decoder, form.new_tokens, seed, stops=False)
        return np.concatenate([ids[:1], *windows])[: len(ids)].astype(np.int32)

    def _continue(
        self,
        starts: list[Ids],
        decoder: AnyDecoder,
        new_tokens: int,
        seed: int,
        *,
        stops: bool,
        batch: int | None = None,
    ) -> list[Ids]:
        return continue_prompts(
            self.network,
            self.codec,
            starts,
            decoder=decoder.at(self.facts[DECODER_TEMPERATURE]) if isinstance(decoder, Matched) else decoder,
            new_tokens=new_tokens,
            stops=stops,
            batch=batch or self.writing.batch,
            seed=seed,
        )
