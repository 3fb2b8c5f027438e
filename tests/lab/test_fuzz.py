"""Damage to what the laboratory reads: its run, its configuration, its corpus. It is made good, or named."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tailkeep import lab
from tailkeep.lab.causal_lm.data_config import TextCorpus
from tailkeep.lab.causal_lm.dataset import read_dataset
from tests.data.corpus.damage import FORMATS, damaged, error_of, seeded
from tests.lab.small_lab import outcome, run
from tests.report.lab.test_damage import read_by_all

WRONG = [None, [], {}, "x", -1, 1e308, float("nan"), [[1]], {"a": {"b": 1}}, True, [None], 10**400]
RECIPES = sorted((Path(lab.__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


def damage(folder, draw):
    """Change one file of the run in `folder` in one way, and return it."""
    path = draw.choice([path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"])
    content = path.read_bytes()
    if path.suffix in {".json", ".yaml"} and draw.random() < 0.5:
        tree = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
        content = json.dumps(with_a_wrong_value(tree, draw)).encode()
    else:
        content = damaged(content, draw)
    path.unlink()  # it may be linked to that of another generation
    path.write_bytes(content)
    return path


def with_a_wrong_value(tree, draw):
    """`tree` without one of its values, or with another of any kind in its place."""
    node, path = tree, draw.choice(list(places(tree)))
    if not path:
        return draw.choice(WRONG)
    for key in path[:-1]:
        node = node[key]
    if draw.random() < 0.3:
        del node[path[-1]]
    else:
        node[path[-1]] = draw.choice(WRONG)
    return tree


def places(tree, path=()):
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree[:3]) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@pytest.mark.slow
def test_a_damaged_run_is_made_good_by_the_same_command_or_refused(whole, tmp_path):
    draw = seeded()
    for case in range(30):
        copy = shutil.copytree(whole, tmp_path / str(case))
        path = damage(copy, draw).relative_to(copy)
        if not (error := error_of(lambda copy=copy: run(copy))):
            assert outcome(copy) == outcome(whole), path
        else:
            assert "Traceback" not in error
            assert str(copy) in error


@pytest.mark.slow
def test_a_damaged_run_is_read_or_the_damage_is_named(whole, tmp_path):
    draw = seeded()
    for case in range(8):
        copy = shutil.copytree(whole, tmp_path / str(case))
        for done in copy.rglob("DONE"):
            done.write_text("")  # as in a pack, which records no sha256
        damage(copy, draw)
        for error in read_by_all(copy, tmp_path / f"{case}-out").values():
            assert error


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_corpus_is_read_or_the_damage_is_named(tmp_path, name):
    draw = seeded()
    for case in range(5):
        (folder := tmp_path / str(case)).mkdir()
        (folder / name).write_bytes(damaged(FORMATS[name], draw))
        settings = TextCorpus(name="text", path=folder / name)
        assert "\n" not in error_of(lambda settings=settings: read_dataset(settings))


@pytest.mark.slow
def test_a_damaged_configuration_is_read_or_the_damage_is_named(tmp_path):
    draw = seeded()
    for _ in range(60):
        content = draw.choice(RECIPES).read_bytes()
        if draw.random() < 0.5:
            content = damaged(content, draw)
        else:
            content = yaml.safe_dump(with_a_wrong_value(yaml.safe_load(content), draw)).encode()
        (tmp_path / "x.yaml").write_bytes(content)
        assert "Traceback" not in error_of(lambda: lab.load(tmp_path / "x.yaml"))
