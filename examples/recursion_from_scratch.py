"""The recursion from scratch: train a small language model, sample documents from it, train the next model on them.

    python examples/recursion_from_scratch.py runs/from-scratch
    python examples/recursion_from_scratch.py runs/from-scratch-2 --threshold 1 --regime accumulate

Plain PyTorch and transformers; tailkeep provides the world with known truth, the loss and the KR-test. `tailkeep lab`
adds arms, resuming, metrics and a report. On a CPU the numbers are those of `tailkeep lab demo`, seed 0, to the last
digit: of its arm `truncated`, and with --threshold 1 of `baseline` or `accumulate`. Takes half a minute on one core.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tailkeep.data import Question, World, WorldConfig
from tailkeep.losses import attach, detach, read_stats
from tailkeep.metrics import kr_accuracy, kr_margins
from tailkeep.scoring import encode_question, encode_without_eos, token_log_probs

BLOCK, BATCH, LEARNING_RATE, NEW_TOKENS, TOP_P = 64, 8, 3e-3, 64, 0.95
Documents = list[np.ndarray]  # token ids of each document: <s>, text, </s>


def seed_of(run_seed: int, generation: int, phase: str) -> int:
    """The lab's seed of a phase: it does not depend on what was drawn before."""
    number = ("write", "train").index(phase)
    return int(np.random.SeedSequence([run_seed, generation, number]).generate_state(1)[0])


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the real text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    options = {"special_tokens": list(special.values()), "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=768, show_progress=False, **options))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def encode(tokenizer: Any, texts: list[str]) -> Documents:
    """The token ids of each text between <s> and </s>."""
    return [np.append(encode_without_eos(tokenizer, text), np.int32(tokenizer.eos_token_id)) for text in texts]


def new_model(tokenizer: Any, *, seed: int) -> Any:
    """A llama of two layers with random weights."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = {**sizes, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 128, "tie_word_embeddings": True}
    return LlamaForCausalLM(LlamaConfig(**config))


def split_rows(documents: Documents) -> Documents:
    """Rows of at most BLOCK predictions, none across two documents."""
    return [ids[start : start + BLOCK + 1] for ids in documents for start in range(0, len(ids) - 1, BLOCK)]


def train(model: Any, documents: Documents, *, tokens: float, threshold: float, pad: int, seed: int) -> float:
    """Train `model` on `tokens` tokens of `documents` with truncated cross-entropy; return the kept fraction."""
    rows = split_rows(documents)
    steps_per_epoch = math.ceil(len(rows) / BATCH)
    epochs = tokens / sum(len(row) - 1 for row in rows)
    attach(model, "truncated", threshold=threshold)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    model.train()
    order: list[int] = []
    for step in range(max(1, round(epochs * steps_per_epoch))):
        epoch, position = divmod(step, steps_per_epoch)
        if position == 0:
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        batch = [torch.from_numpy(rows[i]).long() for i in order[position * BATCH : (position + 1) * BATCH]]
        ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=pad)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in batch], batch_first=True)
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    stats = read_stats(model)
    detach(model).eval()
    return stats["kept_fraction"]


def sample(model: Any, tokenizer: Any, count: int, *, seed: int) -> Documents:
    """`count` documents written by `model`, each up to its </s>."""
    torch.manual_seed(seed)
    start = torch.full((count, 1), tokenizer.bos_token_id)
    options = {"do_sample": True, "top_p": TOP_P, "top_k": 0, "suppress_tokens": [tokenizer.pad_token_id]}
    with torch.inference_mode():
        out = model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=NEW_TOKENS, **options)
    return [row[row != tokenizer.pad_token_id] for row in out.numpy().astype(np.int32)]  # padding follows </s>


def evaluate(model: Any, tokenizer: Any, held_out: Documents, questions: list[Question]) -> dict[str, float]:
    """Held-out NLL in nats/token, and the share of questions whose true sentence is the likelier one."""
    log_probs = np.concatenate(token_log_probs(model, split_rows(held_out)))
    items = [encode_question(question, lambda text: encode_without_eos(tokenizer, text)) for question in questions]
    scores = iter(token_log_probs(model, [row for _, true, false in items for row in (true, false)]))
    margins = kr_margins((next(scores)[start - 1 :], next(scores)[start - 1 :]) for start, _, _ in items)
    return {"held_out_nll": -float(log_probs.mean()), "kr_accuracy": kr_accuracy(margins.common)}


def main() -> None:
    """Run the recursion that the command line describes; one line of metrics.jsonl per generation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--regime", choices=["replace", "accumulate"], default="replace")
    parser.add_argument("--threshold", type=float, default=0.99, help="of the loss; 1 is plain cross-entropy")
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--documents", type=int, default=400, help="real ones, and written ones per generation")
    parser.add_argument("--epochs", type=float, default=6, help="over as many tokens as the real documents have")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists. Choose another folder.")
    options.out.mkdir(parents=True)
    torch.set_num_threads(1)  # Sums differ with the number of threads.

    world = World(WorldConfig(people=24, values=12, documents=options.documents))
    tokenizer = train_tokenizer(world.corpus())
    real, held_out = (encode(tokenizer, texts) for texts in (world.corpus(), world.held_out()))
    tokens, pad = options.epochs * sum(map(len, real)), int(tokenizer.pad_token_id)
    model, data = new_model(tokenizer, seed=seed_of(options.seed, 0, "train")), real
    for generation in range(options.generations):
        if generation:
            written = sample(model, tokenizer, len(real), seed=seed_of(options.seed, generation, "write"))
            data = written if options.regime == "replace" else [*data, *written]
        seed = seed_of(options.seed, generation, "train")
        kept = train(model, data, tokens=tokens, threshold=options.threshold, pad=pad, seed=seed)
        truth = world.truth_metrics([tokenizer.decode(ids, skip_special_tokens=True) for ids in data])
        row = {"generation": generation, **evaluate(model, tokenizer, held_out, world.questions())}
        row |= {"kept_fraction": kept, "data.rare_fact_coverage": truth["rare_fact_coverage"]}
        with (options.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print("  ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
