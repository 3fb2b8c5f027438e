"""Documents of a real model and of people that continue the same prompts, to measure what an audit says of mixtures.

    python examples/write_documents.py MODEL OUT TEXT [TEXT ...] --num-documents 2000 --tokens 128

MODEL is a causal language model in Hugging Face format, TEXT WikiText in its token form. The running text of each
article is cut into windows: 24 tokens of prompt, then so many tokens as a document has. Writes OUT/machine.jsonl, what
the model samples after the prompts of windows drawn at random (temperature 1, no truncation, no end-of-text token), and
OUT/human.jsonl, the rest of every window without `<unk>`. Both have the fields id, text, source (the title of the
article) and prompt; line breaks are spaces. Rule: windows and samples are a function of the arguments alone.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

TITLE = re.compile(r" = ([^=]+) = ")
HEADING = re.compile(r" =.*= ")
PROMPT_TOKENS, BATCH = 24, 100
RULES = (
    (r" @([-,.])@ ", r"\1"),
    (r" ([,.;:!?%)\]])", r"\1"),
    (r"([(\[$£€]) ", r"\1"),
    (r" '(s|t|re|ve|ll|d|m)\b", r"'\1"),
    (r" n't\b", "n't"),
    (r"(\w) '(?= )", r"\1'"),
    (r'" ([^"]*?) "', r'"\1"'),
)
"""WikiText's token form back to running text."""


def detokenize(line: str) -> str:
    """One paragraph as running text."""
    text = " ".join(line.split())
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return text


def articles_of(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """The title and the running text of each article, without headings."""
    for path in paths:
        title, paragraphs = "", list[str]()
        for line in [*path.read_text(encoding="utf-8").split("\n"), " = end = "]:
            if match := TITLE.fullmatch(line):
                if paragraphs:
                    yield title, " ".join(paragraphs)
                title, paragraphs = match[1].strip(), []
            elif line.strip() and not HEADING.fullmatch(line):
                paragraphs.append(detokenize(line))


def windows_of(
    articles: Iterator[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, tokens: int
) -> Iterator[dict[str, str]]:
    """The windows of all articles: source, prompt and the human text after it."""
    size = PROMPT_TOKENS + tokens
    for title, text in articles:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids) - size + 1, size):
            prompt = tokenizer.decode(ids[start : start + PROMPT_TOKENS])
            human = tokenizer.decode(ids[start + PROMPT_TOKENS : start + size])
            yield {"source": title, "prompt": prompt, "text": " ".join(human.split())}


@torch.inference_mode()
def continue_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], tokens: int, seed: int
) -> Iterator[str]:
    """One sample of so many `tokens` after each prompt, in batches that each have a seed."""
    for start in range(0, len(prompts), BATCH):
        torch.manual_seed(seed + start)
        inputs = tokenizer(list(prompts[start : start + BATCH]), return_tensors="pt", padding=True)
        sampled = model.generate(
            **inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, min_new_tokens=tokens, max_new_tokens=tokens,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        for row in sampled[:, inputs["input_ids"].shape[1] :]:
            yield " ".join(tokenizer.decode(row, skip_special_tokens=True).split())
        print(f"{min(start + BATCH, len(prompts))} of {len(prompts)} documents", flush=True)


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write one row a line, each with an id."""
    lines = [
        json.dumps({"id": f"{path.stem}-{number}", **row}, ensure_ascii=False) + "\n" for number, row in enumerate(rows)
    ]
    path.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Write both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("text", type=Path, nargs="+")
    parser.add_argument("--num-documents", type=int, default=2000, help="documents of the model")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per document")
    parser.add_argument("--dtype", default="bfloat16", help="number format of the weights")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    windows = list(windows_of(articles_of(options.text), tokenizer, options.tokens))
    clean = [window for window in windows if "<unk>" not in window["prompt"]]
    if len(clean) < options.num_documents:
        parser.error(f"--num-documents must be <= {len(clean)} prompts without <unk>, got {options.num_documents}")
    drawn = random.Random(options.seed).sample(clean, options.num_documents)  # noqa: S311  (no secret)
    options.out.mkdir(parents=True, exist_ok=True)
    human = [window for window in windows if "<unk>" not in window["text"]]
    write_rows(options.out / "human.jsonl", human)
    print(f"{len(human)} human documents in {options.out}", flush=True)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=options.dtype).eval()
    prompts = [window["prompt"] for window in drawn]
    texts = continue_prompts(model, tokenizer, prompts, options.tokens, options.seed)
    rows = [{**window, "text": text} for window, text in zip(drawn, texts, strict=True)]
    write_rows(options.out / "machine.jsonl", rows)


if __name__ == "__main__":
    main()
