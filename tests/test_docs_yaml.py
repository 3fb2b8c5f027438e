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


def blocks(page):
    """The YAML blocks of a page by the line in which each begins."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    matches = re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL)
    return {text[: match.start()].count("\n") + 2: yaml.safe_load(match[1]) for match in matches}


@pytest.mark.parametrize("line", blocks("laboratory"))
def test_every_configuration_of_the_laboratorys_page_loads(line):
    tree = blocks("laboratory")[line]
    # A part of a configuration is one of language models; an ecosystem has a model for each member.
    rest = {key: value for key, value in BASE.items() if key != "model" or "members" not in tree}
    lab.load({**rest, **tree} if tree.get("learner", "causal_lm") in {"causal_lm", "ecosystem"} else tree)


def test_the_configuration_of_the_page_on_editing_loads():
    (tree,) = blocks("editing").values()
    load_edit(tree)
