"""A random model of stories, sure enough of itself that log-probabilities differ, with its tokenizer in one folder."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tailkeep.data import Question
from tailkeep.lab.causal_lm.tokenizer import train_tokenizer
from tests.lab.causal_lm.tiny import SHAPE, STORIES

QUESTIONS = [
    Question(f"{name} had a cat.", f"{name} saw a {one} boat.", f"{name} saw a {other} tree by a house.", number)
    for number, (name, one, other) in enumerate(
        [("Ann", "red", "old"), ("Ben", "old", "green"), ("Cleo", "little", "red"), ("Dov", "green", "little")] * 3
    )
]


def save_model(folder, seed=0):
    """The model in `folder`."""
    tokenizer = train_tokenizer(STORIES, vocab_size=300)
    torch.manual_seed(seed)
    network = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1))
    with torch.no_grad():
        network.lm_head.weight.mul_(20)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
