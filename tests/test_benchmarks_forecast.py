"""The benchmarks of the forecast at toy sizes: its cost beside a Counter, and the tables of its validation."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import forecast as cost
import forecast_chains

from tailkeep import lab


def test_the_cost_is_a_table_relative_to_a_counter(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(" ".join(f"w{number**2 % 977}" for number in range(5000)))
    cost.main([str(tmp_path / "x.txt"), "--bytes", "60000", "--memory-mb", "16", "--jobs", "forecast"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["| job", "| Counter", "| forecast"]
    assert rows[1][3:] == ["1.00", "1.00 |"]


def test_the_text_is_a_function_of_the_seed_and_as_long_as_asked(tmp_path):
    (tmp_path / "x.txt").write_text(" ".join(f"w{number}" for number in range(5000)))
    sizes = [cost.make_text([tmp_path / "x.txt"], tmp_path / name, 50_000, int(name[1])) for name in ("a0", "b0", "c1")]
    texts = [[path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in ("a0", "b0", "c1")]
    assert texts[0] == texts[1] != texts[2]
    # Two files, so that there is a synthetic half.
    assert len(texts[0]) == 2
    assert sizes[0] == sum(map(len, texts[0])) == pytest.approx(50_000, rel=0.05)


def test_files_are_as_many_as_the_size_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "FILE_BYTES", 20_000)
    (tmp_path / "x.txt").write_text("a b c d e f g h i j " * 100)
    assert cost.make_text([tmp_path / "x.txt"], tmp_path / "text", 50_000, 0) == pytest.approx(50_000, rel=0.05)
    assert len(list((tmp_path / "text").iterdir())) == 3


def test_chains_are_scored_into_the_tables_of_the_page(tmp_path, capsys, monkeypatch):
    arms = {"baseline": {}, "accumulate": {"regime": {"name": "accumulate"}}}
    world = {"modes": 30, "size": 400, "zipf": 1.0}
    tree = {"learner": "mixture", "generations": 4, "components": 30, "data": world, "seeds": [0], "arms": arms}
    lab.run(tree, tmp_path / "validation" / "mixture")
    monkeypatch.setitem(forecast_chains.HALVES, "validation", {"mixture": ([], []), "demo": ([], [])})
    forecast_chains.main(["score", "validation", str(tmp_path)])
    printed = capsys.readouterr()
    assert printed.err == "not run: demo\n"
    assert "| replaced, none, 1 measured | 1 | 1 |" in printed.out
    assert "inside the gate: no point." in printed.out
    assert "| mixture, accumulate/0, 1 |" in printed.out


def test_no_recipe_stands_in_both_halves_and_all_arms_exist():
    halves = forecast_chains.HALVES
    assert not set(halves["development"]) & set(halves["validation"])
    for recipes in halves.values():
        for recipe, (arms, overrides) in recipes.items():
            if not any("{data}" in text for text in overrides):
                config = lab.load(recipe, overrides=list(overrides), arms=list(arms))
                assert set(config.arms) == set(arms)
