"""A language model, rows and loops small enough for a second, which the tests of this folder share."""

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainingArguments

from tailkeep.losses import reduce_nll, token_nll, truncated_cross_entropy, truncation_mask

VOCABULARY, PAD = 97, 95
THRESHOLD = 0.3


def new_model(seed=0):
    """Two layers whose predictions are sure enough for a third of its tokens to be truncated at `THRESHOLD`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=PAD,
        bos_token_id=96,
        eos_token_id=96,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(60)
    return model.train()


def tokenizer():
    words = {f"w{i}": i for i in range(VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token=f"w{PAD}", eos_token="w96"
    )


def rows(model, count, seed=0):
    """Rows of 5 to 20 tokens, about half of which are what `model` finds likeliest, with some labels ignored."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        length = int(torch.randint(5, 21, (), generator=generator))
        ids = torch.randint(0, PAD, (length,), generator=generator)
        for place in range(1, length):
            if torch.rand((), generator=generator) < 0.5:
                with torch.no_grad():
                    ids[place] = model(input_ids=ids[None, :place]).logits[0, -1, :PAD].argmax()
        labels = torch.where(torch.rand(length, generator=generator) < 0.1, -100, ids)
        rows.append({"input_ids": ids.tolist(), "labels": labels.tolist()})
    return rows


def collate(batch):
    width = max(len(row["input_ids"]) for row in batch)
    padded = {"input_ids": PAD, "labels": -100}
    tensors = {
        name: torch.tensor([row[name] + [pad] * (width - len(row[name])) for row in batch])
        for name, pad in padded.items()
    }
    lengths = torch.tensor([[len(row["input_ids"])] for row in batch])
    return {**tensors, "attention_mask": (torch.arange(width) < lengths).long()}


def arguments(folder, kind=TrainingArguments, **changes):
    return kind(
        **{
            "output_dir": str(folder),
            "max_steps": 5,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **changes,
        }
    )


def unfused(outputs, labels, num_items_in_batch=None, threshold=THRESHOLD):
    """The loss from the logits, as a Trainer's compute_loss_func."""
    return truncated_cross_entropy(
        outputs.logits[:, :-1], labels[:, 1:], threshold=threshold, num_items=num_items_in_batch
    )


def facts(model, batch):
    """Kept fraction and plain cross-entropy of a batch, from its logits."""
    with torch.no_grad():
        targets = batch["labels"][:, 1:]
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        nll = token_nll(model(**inputs).logits[:, :-1], targets)[targets != -100]
    kept_fraction = truncation_mask(nll, threshold=THRESHOLD).float().mean()
    return {"kept_fraction": float(kept_fraction), "cross_entropy": float(reduce_nll(nll, torch.ones_like(nll)))}


def logged(trainer, name="loss"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def distance(one, other):
    """The largest difference between the weights of two models."""
    return max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), other.parameters(), strict=True))
