"""Priors with random weights of a fixed seed, and byte-level BPE tokenizers trained on the texts themselves."""

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edit_cost.texts import human_documents, world_documents

_WORLD_DOCUMENTS = 40_000
_END = "<|endoftext|>"


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    vocab: int
    width: int = 512
    layers: int = 8
    positions: int = 2048
    head: int = 64


REALISTIC = {
    "50k": Shape(50_257),
    "128k": Shape(128_256),
    "150k": Shape(151_936),
    "262k": Shape(262_144, width=64, layers=2, head=16),
}
TINY = Shape(2_048, width=16, layers=1, positions=512, head=16)


def write_prior(folder: Path, shape: Shape) -> int:
    """Write a model and its tokenizer; return the number of ids of the tokenizer, which is smaller for small texts.

    Ids beyond the tokenizer's are computed like all others, as in models with a padded vocabulary.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    # Parallel counting gives the same result in any order, and it is not part of what is measured.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocab,
        min_frequency=1,
        special_tokens=[_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [*human_documents(), *islice(world_documents(), _WORLD_DOCUMENTS)]
    tokenizer.train_from_iterator(texts, trainer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=shape.width * 8 // 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // shape.head,
        num_key_value_heads=shape.width // shape.head,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END).save_pretrained(folder)
    return int(tokenizer.get_vocab_size())
