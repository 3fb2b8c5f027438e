"""Documents rewritten by a model that has them in its prompt, as industry makes synthetic text from the web.

Rule: one document in, one out, and nothing of the prompt is kept. A chat model is asked in its own template, any other
model reads the document and then the instruction.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tailkeep.errors import ConfigError
from tailkeep.lab.causal_lm.data_config import FixedDecoder
from tailkeep.lab.causal_lm.generation import continue_prompts
from tailkeep.lab.causal_lm.tokenizer import DocumentTokenizer, Ids
from tailkeep.lab.causal_lm.tokens import TokenData


def rephrase(
    network: Any,
    data: TokenData,
    *,
    instruction: str,
    max_length_ratio: float,
    decoder: FixedDecoder,
    batch: int,
    seed: int,
) -> TokenData:
    """The documents of `data` in the words of `network`, each of at most `max_length_ratio` times its tokens.

    Args:
        instruction: what the model is told to do with the document.
        decoder: how it writes; a document also ends at the tokenizer's end-of-text token, in a chat model that of a
            turn.
        batch: the most documents in one call; the result depends on it.

    Returns:
        As many documents, in the same order; one that the model leaves empty is empty.
    """
    # The end of a document is a token to write here, also where joined documents have none.
    writer = replace(data.tokenizer, append_eos=data.tokenizer.hf_tokenizer.eos_token_id is not None)
    texts = [data.tokenizer.decode(document).strip() for document in data.documents]
    prompts = [rephrase_prompt(data.tokenizer, text, instruction) for text in texts]
    order = sorted(range(len(texts)), key=lambda number: (len(data.documents[number]), number))
    outputs: list[Ids] = [np.zeros(0, np.int32)] * len(texts)
    for group in (order[first : first + batch] for first in range(0, len(order), batch)):
        longest = max(len(data.documents[number]) for number in group)
        continuations = continue_prompts(
            network,
            writer,
            [prompts[number] for number in group],
            decoder=decoder,
            new_tokens=math.ceil(max_length_ratio * longest),
            stop_at_eos=True,
            batch=batch,
            seed=int(np.random.SeedSequence([seed, group[0]]).generate_state(1)[0]),
        )
        for number, ids in zip(group, continuations, strict=True):
            outputs[number] = ids[: math.ceil(max_length_ratio * len(data.documents[number]))]
    rewritten = [data.tokenizer.encode(data.tokenizer.decode(ids).strip()) for ids in outputs]
    return TokenData.from_documents(rewritten, data.tokenizer)


def rephrase_prompt(tokenizer: DocumentTokenizer, text: str, instruction: str) -> Ids:
    """What a model reads before it writes `text` in other words."""
    if tokenizer.hf_tokenizer.chat_template:
        turn = [{"role": "user", "content": f"{instruction}\n\n{text}"}]
        rendered = tokenizer.hf_tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return np.array(tokenizer.hf_tokenizer(rendered, add_special_tokens=False)["input_ids"], dtype=np.int32)
    return tokenizer.encode_without_eos(f"{text}\n\n{instruction}\n\n")


def check_fits_rephrasing(data: TokenData, *, instruction: str, max_length_ratio: float, positions: int | None) -> None:
    """Check that the model reads every document, the instruction and what it is to write.

    Raises:
        ConfigError: a document is too long.
    """
    longest = max(data.documents, key=len, default=np.zeros(0, np.int32))
    prompt = rephrase_prompt(data.tokenizer, data.tokenizer.decode(longest), instruction)
    needed = len(prompt) + math.ceil(max_length_ratio * len(longest))
    if positions is not None and needed > positions:
        raise ConfigError(
            f"regime.name: 'rephrase' needs {needed} positions for the longest document ({len(longest)} tokens), the "
            f"model has {positions}. Split documents, see data.separator, or lower regime.max_length_ratio."
        )
