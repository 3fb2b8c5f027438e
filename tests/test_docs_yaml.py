"""Configurations on documentation pages load: whoever copies one gets no unknown key."""

import re
from pathlib import Path

import pytest
import yaml

from tailkeep import lab
from tailkeep.edit import load as load_edit

DOCS = Path(__file__).parents[1] / "docs"
BASE = {
    "learner": "causal_lm",
    "data": {"name": "world"},
    "model": {"name": "scratch"},
    "tokenizer": {"train": {"vocab_size": 300}},
}


def blocks(*patterns):
    """The YAML blocks of the pages by page and the line in which each begins."""
    trees = {}
    for page in sorted(page for pattern in patterns for page in DOCS.glob(pattern)):
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL):
            line = text[: match.start()].count("\n") + 2
            trees[f"{page.relative_to(DOCS).as_posix()}:{line}"] = yaml.safe_load(match[1])
    return trees


LABORATORY = blocks("laboratory.md", "laboratory/*.md")


def test_the_laboratorys_pages_have_configurations():
    assert len(LABORATORY) >= 12
    assert len({place.partition(":")[0] for place in LABORATORY}) >= 5


@pytest.mark.parametrize("place", LABORATORY)
def test_every_configuration_of_the_laboratorys_pages_loads(place):
    tree = LABORATORY[place]
    # A part of a configuration is one of language models; an ecosystem has a model for each member.
    rest = {key: value for key, value in BASE.items() if key != "model" or "members" not in tree}
    lab.load({**rest, **tree} if tree.get("learner", "causal_lm") in {"causal_lm", "ecosystem"} else tree)


def test_the_configuration_of_the_page_on_editing_loads():
    (tree,) = blocks("editing.md", "editing/*.md").values()
    load_edit(tree)
