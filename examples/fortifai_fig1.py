"""Is a model more confident in what it wrote itself? The measurement of ForTIFAI's figure 1 (arXiv 2509.08972).

    python examples/fortifai_fig1.py SELECTION MODEL OUT --seeds 1 2 3 --learning-rate 3e-4 --epochs 4
    python examples/fortifai_fig1.py --scores FILE

SELECTION is a folder of examples/wikitext_articles.py, MODEL a pretrained model's folder. Articles in alternation are
trained on or not; the model as it was (`base`) and one fine-tuned model for each seed regenerate all of them, window by
window (96 tokens of context, 32 new ones), greedily, by nucleus sampling (top_p 0.9) and at temperature 1, or by what
`--decoders` names. Every model then scores every text so far. A score is the mean probability of a block of 128 tokens.

Each step is a file in OUT, so a rerun continues. A seed is finished, with its table, before the next one trains.
OUT/scores.json has the scores. The table says for each decoder how often a block of a fine-tuned model's own text
scores higher than a block of base's own text (AUROC, 95 % bootstrap interval over blocks), than base's or an earlier
seed's text under the same model, and the same for text that neither wrote.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from steps import begin, once

from tailkeep.data import read_records
from tailkeep.lab.causal_lm.config import CausalLMArm, Generation, WindowPrompts
from tailkeep.lab.causal_lm.data_config import FixedDecoder, Greedy, Sampling
from tailkeep.lab.causal_lm.learner import build
from tailkeep.lab.causal_lm.model import LanguageModel
from tailkeep.lab.causal_lm.tokens import TokenData, training_rows
from tailkeep.metrics import auroc
from tailkeep.runs import Storage

BLOCK = 128
HALVES = ("trained", "unseen")
TITLE = re.compile(r" = [^=]+ = ")
DECODERS: dict[str, FixedDecoder] = {
    "greedy": Greedy(name="greedy"),
    "nucleus": Sampling(name="sample", top_p=0.9),
    "sample": Sampling(name="sample"),
}
Scores = NDArray[np.float64]


def split_articles(text: str) -> tuple[str, str]:
    """The first, third ... article, and the second, fourth ... one."""
    halves: tuple[list[str], list[str]] = ([], [])
    number = -1
    for line in text.splitlines(keepends=True):
        number += bool(TITLE.fullmatch(line.rstrip("\n")))
        halves[max(number, 0) % 2].append(line)
    return "".join(halves[0]), "".join(halves[1])


def make_arm(text: Path, unseen: Path, model: Path, options: argparse.Namespace) -> CausalLMArm:
    """The laboratory's arm that trains on all of `text`."""
    training = {"block": BLOCK, "batch": 16, "epochs": options.epochs, "learning_rate": options.learning_rate}
    tree = {
        "learner": "causal_lm",
        "regime": {"name": "replace"},
        "data": {"name": "text", "path": text, "held_out_path": unseen},
        "model": {"name": "pretrained", "path": model},
        "tokenizer": {"append_eos": False, "start_before": "block"},
        "training": training,
        "generation": {"form": {"name": "windows"}, "batch": 32},
    }
    return CausalLMArm.model_validate(tree)


def block_scores(model: LanguageModel, ids: Sequence[int], tokens: TokenData) -> list[float]:
    """The mean probability of each whole block of a text."""
    rows = training_rows(replace(tokens, ids=np.array(ids, np.int32)), block=BLOCK, joined=True)
    whole = [row for row in rows if len(row) == BLOCK + 1]
    return [round(float(np.exp(row.astype(np.float64)).mean()), 5) for row in model.log_probs(whole)]


def auroc_interval(first: Scores, second: Scores, *, resamples: int = 2000) -> tuple[float, float, float]:
    """How often `first` is above `second`, with a 95 % interval; both have the same blocks, resampled together."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(first), len(first)) for _ in range(resamples))
    low, high = np.quantile([auroc(second[rows], first[rows]) for rows in draws], [0.025, 0.975])
    return auroc(second, first), float(low), float(high)


def main() -> None:
    """Train, regenerate, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("selection", type=Path, nargs="?")
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="only print the table of such a scores.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--decoders", nargs="+", choices=list(DECODERS), default=list(DECODERS))
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--articles", type=int, help="take only the first ones, for a trial")
    options = parser.parse_args()
    if options.scores:
        print_table(json.loads(options.scores.read_text(encoding="utf-8")))
        return
    if options.out is None:
        parser.error("SELECTION, MODEL and OUT are needed, or --scores FILE")

    of_results = ("selection", "model", "epochs", "learning_rate", "articles")
    begin(options.out, {key: getattr(options, key) for key in of_results})
    text = (options.selection / "text.txt").read_text(encoding="utf-8")
    if options.articles:
        starts = [match.start() for match in re.finditer(r"(?m)^ = [^=\n]+ = $", text)]
        text = text[: [*starts, len(text)][min(options.articles, len(starts))]]
    halves = dict(zip(HALVES, split_articles(text), strict=True))
    for name, half in halves.items():
        (options.out / f"{name}.txt").write_text(half, encoding="utf-8")
    arm = make_arm(options.out / "trained.txt", options.out / "unseen.txt", options.model, options)
    learner: Any = build(arm, device="auto", losses={}, shared={}).learner
    tokens = {
        name: TokenData.from_records(read_records(options.out / f"{name}.txt"), learner.tokenizer) for name in halves
    }

    def fine_tuned(seed: int) -> LanguageModel:
        folder = options.out / f"model-{seed}"
        if not folder.exists():
            trained = learner.fit(tokens["trained"], seed=seed, budget=tokens["trained"].units)
            Storage().write_folder(folder, trained.save)
        model: LanguageModel = learner.load(folder)
        return model

    def base() -> LanguageModel:
        network = learner.initial_network(0).to(learner.device).eval()
        return LanguageModel(network, learner.tokenizer, arm.generation, tokens["trained"], precision=learner.precision)

    models: dict[str, Callable[[], LanguageModel]] = {
        "base": base,
        **{f"seed-{seed}": partial(fine_tuned, seed) for seed in options.seeds},
    }
    both = tokens["trained"].concat(tokens["unseen"])
    texts: dict[str, list[int]] = {name: data.ids.tolist() for name, data in tokens.items()}

    def write_all(writer: str) -> None:
        """The whole text as `writer` regenerates it, once for each decoder."""
        number = 0 if writer == "base" else int(writer.removeprefix("seed-"))
        for decoder in options.decoders:

            def write(settings: FixedDecoder = DECODERS[decoder]) -> list[int]:
                generation = Generation(form=WindowPrompts(name="windows"), decoder=settings, batch=32)
                model = replace(models[writer](), generation=generation)
                return model.regenerate(both, seed=number).ids.tolist()  # type: ignore[no-any-return]

            texts[f"{writer}/{decoder}"] = once(options.out / f"text-{writer}-{decoder}.json", write)
            print(f"{writer} has written: {decoder}", flush=True)

    def score_all(reader: str, names: Sequence[str]) -> dict[str, list[float]]:
        """What `reader` thinks of the texts of these names; it is loaded once, and only where a score is missing."""
        loaded = cache(models[reader])
        end = len(tokens["trained"].ids)

        def score(ids: Sequence[int]) -> list[float]:
            # A text of both halves is cut where they meet, so that its blocks are those of each half.
            pieces = [ids[:end], ids[end:]] if len(ids) == len(both.ids) else [ids]
            return [value for piece in pieces for value in block_scores(loaded(), piece, both)]

        scores = {}
        for name in names:
            path = options.out / f"scores-{reader}-{name.replace('/', '-')}.json"
            scores[name] = once(path, partial(score, texts[name]))
        print(f"{reader} has scored {len(scores)} texts", flush=True)
        return scores

    scores: dict[str, dict[str, list[float]]] = {}
    for writer in models:
        write_all(writer)
        scores["base"] = score_all("base", list(texts))
        if writer != "base":
            scores[writer] = score_all(writer, list(texts))
            Storage().write_text(options.out / "scores.json", json.dumps(scores))
            print_table(scores)


def print_table(scores: dict[str, dict[str, list[float]]]) -> None:
    """For each seed so far: its own text, another seed's and the real text, against base."""
    print("\nAUROC of block scores, first against second (95 % interval over blocks)")
    seeds = [name for name in scores if name != "base"]
    for seed in seeds:
        own, base_scores = scores[seed], scores["base"]
        for decoder in (name for name in DECODERS if f"{seed}/{name}" in own):
            pairs = [("own text, fine-tuned against base", own[f"{seed}/{decoder}"], base_scores[f"base/{decoder}"])]
            pairs += [("own text against base's, fine-tuned", own[f"{seed}/{decoder}"], own[f"base/{decoder}"])]
            pairs += [
                (f"own text against {other}'s, fine-tuned", own[f"{seed}/{decoder}"], own[f"{other}/{decoder}"])
                for other in seeds[: seeds.index(seed)]
                if f"{other}/{decoder}" in own
            ]
            start = len(own["trained"])
            for half, blocks in zip(HALVES, (slice(start), slice(start, None)), strict=True):
                written, base_written = own[f"{seed}/{decoder}"][blocks], base_scores[f"base/{decoder}"][blocks]
                pairs += [(f"own text against real text, {half} half", written, own[half])]
                pairs += [(f"base: own against real text, {half} half", base_written, base_scores[half])]
            for label, first, second in pairs:
                print(f"{seed} {decoder:8} {label:40} " + _shown((np.array(first), np.array(second))))
        for half in HALVES:
            pair = np.array(own[half]), np.array(base_scores[half])
            print(f"{seed} {half:8} {'real text, fine-tuned against base':40} " + _shown(pair))


def _shown(pair: tuple[Scores, Scores]) -> str:
    share, low, high = auroc_interval(*pair)
    return f"{share:.3f} ({low:.3f} to {high:.3f}), means {pair[0].mean():.3f} and {pair[1].mean():.3f}"


if __name__ == "__main__":
    main()
