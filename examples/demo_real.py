"""A real model on real text, in a few minutes on a CPU: its confidence, an edit, and one truncated training step.

    python examples/demo_real.py MODEL [--out DIR]

MODEL is a folder such as those of `fetch_models.py`. The text is `moby_dick.txt` beside this file: ten long
paragraphs of Herman Melville's Moby-Dick (1851), in the public domain, as Project Gutenberg has them, one a line.

The model scores the text as a prior, tokens with p >= 0.9 are resampled (`tailkeep edit`), and the page of the edit
shows both. Then one step of training on the first tokens, by the model's cross-entropy and by the truncated one that
`attach` computes inside the output layer; each runs in a process of its own, whose peak memory is measured.
"""

import argparse
import math
import multiprocessing
import resource
import time
from pathlib import Path

TEXT = Path(__file__).parent / "moby_dick.txt"
EDIT_THRESHOLD, LOSS_THRESHOLD = 0.9, 0.99
STEP_TOKENS = 256
BAR = 40


def main() -> None:
    """Score and edit the text, take the two steps, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a folder with a pretrained causal language model")
    parser.add_argument("--out", default="runs/demo-real", help="where the edit is written")
    options = parser.parse_args()
    from tailkeep import edit, report
    from tailkeep.report.edit import read_edit_run
    from tailkeep.report.edit_page import edit_verdict

    config = {"prior": {"path": options.model}, "rule": {"threshold": EDIT_THRESHOLD}}
    started = time.perf_counter()
    edit.run(config, [str(TEXT)], options.out)
    print(f"scored and edited {TEXT.name} in {time.perf_counter() - started:.0f} s\n")
    run = read_edit_run(options.out, edits=0)
    print_confidence(run.counts, run.bands)
    print(f"\none training step on {STEP_TOKENS} tokens:")
    print(f"{'loss':26}{'time':>8}{'peak memory':>14}{'value':>16}{'kept tokens':>13}")
    for threshold in (None, LOSS_THRESHOLD):
        name = "cross-entropy" if threshold is None else f"truncated, p > {threshold}"
        seconds, memory, loss, kept = in_own_process(options.model, threshold)
        print(f"{name:26}{seconds:>6.1f} s{memory:>11.2f} GB{loss:>11.3f} nats{kept:>12.1%}")
    print(f"\n{edit_verdict(run.counts)} Tokens with p >= {EDIT_THRESHOLD} were resampled; the paper takes 0.99.")
    print(f"report: {report.write_edits(options.out)}")


def print_confidence(counts: dict[str, int], bands: list[str]) -> None:
    """The histogram of token probabilities: one row per band of p."""
    print("probability of the token under the model, from")
    most = max(counts[f"tokens/{band}"] for band in bands)
    for band in bands:
        tokens = counts[f"tokens/{band}"]
        print(f"{band:>6} {'#' * math.ceil(BAR * tokens / most):{BAR}} {tokens / counts['tokens']:.1%}")


def in_own_process(model: str, threshold: float | None) -> tuple[float, float, float, float]:
    """`take_step` in a new process, so that its peak memory is its own."""
    pool = multiprocessing.get_context("spawn").Pool(1)
    step = pool.apply(take_step, (model, threshold))
    pool.close()
    pool.join()
    return step


def take_step(model: str, threshold: float | None) -> tuple[float, float, float, float]:
    """Seconds of one step, peak memory of the process in GB, the loss in nats/token, and the share of tokens kept."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from tailkeep.losses import attach, read_stats

    logging.disable_progress_bar()

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
    ids = AutoTokenizer.from_pretrained(model)(TEXT.read_text(encoding="utf-8"), return_tensors="pt").input_ids
    batch = ids[:, :STEP_TOKENS]
    if threshold is not None:
        attach(network, "truncated", threshold=threshold)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    started = time.perf_counter()
    loss = network(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    seconds = time.perf_counter() - started
    kept = 1.0 if threshold is None else read_stats(network)["kept_fraction"]
    return seconds, peak_memory(), loss.item(), float(kept)


def peak_memory() -> float:
    """The most memory that this process has held, in GiB; its rusage begins with that of its parent."""
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main()
