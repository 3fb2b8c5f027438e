"""A pack: a run without models and whole texts, which every reader takes for the run."""

import io
import json
import random
import shutil

import pytest
from rich.console import Console

from tailkeep import lab
from tailkeep.errors import ConfigError, InputError
from tailkeep.report import print_summary
from tailkeep.report.lab.csv import tables
from tailkeep.report.lab.paired_differences import GroupMargins
from tailkeep.report.lab.run import read_lab_run
from tailkeep.report.lab.stats import summarise_run
from tailkeep.runs import RunDirectory
from tailkeep.runs.pack import CURVE_ROWS, SAMPLE_CHARACTERS, read_words, write_pack
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.report.built_runs import finish, language_run, new_run, write_texts
from tests.runs.faults import FaultyStorage, content


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """A language model's run of four arms and three seeds. Read only."""
    return language_run(tmp_path_factory.mktemp("language") / "run", generations=3)


def csv_tables(path):
    run = read_lab_run(path)
    return tables(run, summarise_run(run), [GroupMargins.of(group) for group in run.groups])


def packed(source, out, **options):
    return write_pack(source, out, storage=FaultyStorage(), **options)


def printed(path):
    buffer = io.StringIO()
    print_summary(path, Console(file=buffer, width=100))
    return buffer.getvalue()


def run_with(path, *, generations=1, arm="baseline", tables=None, texts=()):
    """A run of one arm; `texts` are those of a sample and of what was generated, in every generation."""
    with new_run(path, arms=(arm,), seeds=(0,), generations=generations) as run:
        for generation in range(generations):
            cell = run.generation_dir(arm, 0, generation)
            if texts:
                write_texts(cell, "common", texts)
                folder = cell.generated / str(generation)
                folder.mkdir(parents=True)
                shutil.copy(cell.samples / "common" / "text.jsonl", folder)
            finish(cell, {"held_out_nll": 2.0}, learner="causal_lm", tables=tables)
    return path


def test_a_report_of_a_pack_prints_the_tables_of_the_run(language, tmp_path):
    packed(language, tmp_path / "pack")
    assert printed(tmp_path / "pack") == printed(language)
    assert csv_tables(tmp_path / "pack") == csv_tables(language)


def test_a_pack_of_a_pack_is_the_pack(language, tmp_path):
    packed(language, tmp_path / "one")
    packed(tmp_path / "one", tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_language_model_is_packed_with_scores_per_question_and_document(tmp_path):
    questions = [
        {"context": f"{name} saw a red", "sentence_true": "cat.", "sentence_false": "boat.", "location": line}
        # The last one reaches into the held-out stories, so it is not asked.
        for name, line in (("Ann", 0), ("Ben", 8), ("Dov", 24))
    ]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    tree = config_tree(write_stories(tmp_path))
    tree["data"] = {**tree["data"], "kr_test": str(tmp_path / "questions.json")}
    lab.run(tree, tmp_path / "run", storage=FaultyStorage())
    packed(tmp_path / "run", tmp_path / "pack")
    first, second = RunDirectory.open(tmp_path / "pack").generation_dirs()
    table = second.metrics()["tables"]["knowledge"]
    assert table["numbers"] == [0, 1]
    assert table["locations"] == [0, 8]
    assert len(table["margins"]) == 2
    held_out = second.metrics()["tables"]["held_out"]
    assert len(held_out["tokens"]) == len(held_out["nll"]) == 8
    mean = sum(held_out["nll"]) / sum(held_out["tokens"])
    assert mean == pytest.approx(second.metrics()["metrics"]["held_out_nll"], rel=1e-5)
    # The words of what generation 0 wrote for generation 1, in the run and in its pack.
    original = RunDirectory.open(tmp_path / "run").generation_dirs()
    assert read_words(second) == read_words(original[1])
    assert sum(read_words(second).values()) > 0
    assert read_words(first) is None
    names = {path.name for path in (tmp_path / "pack").rglob("*") if path.is_file()}
    assert not names & {"model.safetensors", "tokenizer.json", "ids.npy"}
    # The machine's folders are nobody's business.
    assert str(tmp_path) not in (tmp_path / "pack" / "config.yaml").read_text()


def test_texts_are_shortened_and_their_number_is_limited(tmp_path):
    run_with(tmp_path / "run", texts=[("p" * 900, "t" * 900)] * 30)
    packed(tmp_path / "run", tmp_path / "pack")
    (cell,) = RunDirectory.open(tmp_path / "pack").generation_dirs()
    lines = (cell.samples / "common" / "text.jsonl").read_text().splitlines()
    assert len(lines) == 20
    assert json.loads(lines[0]) == {"prompt": "p" * SAMPLE_CHARACTERS + "…", "text": "t" * SAMPLE_CHARACTERS + "…"}


@pytest.mark.parametrize("parts", [[""], [".one", ".two"]])
def test_a_loss_curve_keeps_200_rows_with_its_first_and_last(tmp_path, parts):
    steps = list(range(1, 1235))
    run_with(
        tmp_path / "run", tables={f"loss_curve{part}": {"step": steps, "loss": [1 / 3] * len(steps)} for part in parts}
    )
    assert "loss curve" not in packed(tmp_path / "run", tmp_path / "pack").missing
    (cell,) = RunDirectory.open(tmp_path / "pack").generation_dirs()
    curve = cell.metrics()["tables"][f"loss_curve{parts[-1]}"]
    assert len(curve["step"]) == len(curve["loss"]) == CURVE_ROWS
    assert (curve["step"][0], curve["step"][-1]) == (1, 1234)
    assert set(curve["loss"]) == {0.333333}


def test_what_older_runs_do_not_record_is_named(tmp_path):
    run_with(tmp_path / "run", tables={"knowledge": {"numbers": [0], "margins": [0.1]}})
    assert packed(tmp_path / "run", tmp_path / "pack").missing == (
        "articles of the questions",
        "likelihood per held-out document",
        "loss curve",
    )


def test_a_pack_that_is_too_large_names_its_parts_and_writes_nothing(tmp_path):
    run_with(tmp_path / "run", texts=[("", " ".join(f"{random.Random(n).getrandbits(64):x}" for n in range(2000)))])
    with pytest.raises(InputError, match=r"more than 5 kB \(words \d+ kB, samples .*Give --no-words"):
        packed(tmp_path / "run", tmp_path / "pack", max_kb=5)
    assert not (tmp_path / "pack").exists()
    written = packed(tmp_path / "run", tmp_path / "pack", max_kb=5, words=False)
    assert written.size == sum(path.stat().st_size for path in written.path.rglob("*") if path.is_file()) < 5000


def test_some_arms_can_be_packed_and_an_unknown_one_is_refused(language, tmp_path):
    written = packed(language, tmp_path / "pack", arms=["accumulate"])
    assert {cell.arm for cell in RunDirectory.open(written.path).generation_dirs()} == {"accumulate"}
    # What is left out is not unfinished.
    assert {arm for arm, _ in RunDirectory.open(written.path).record.chains} <= {"accumulate"}
    with pytest.raises(ConfigError, match="'accumulat' has no finished generation"):
        packed(language, tmp_path / "other", arms=["accumulat"])


def test_an_older_pack_is_replaced_and_anything_else_is_not(language, tmp_path):
    run_with(tmp_path / "run")
    packed(language, tmp_path / "pack")
    assert packed(tmp_path / "run", tmp_path / "pack").num_cells == 1
    assert len(RunDirectory.open(tmp_path / "pack").generation_dirs()) == 1
    before = content(tmp_path / "run")
    for out in (tmp_path / "run", tmp_path):
        with pytest.raises(InputError, match="is there already and is no pack"):
            packed(language, out)
    assert content(tmp_path / "run") == before


def test_a_run_without_a_finished_generation_cannot_be_packed(tmp_path):
    with new_run(tmp_path / "run", arms=("a",), generations=1):
        pass
    with pytest.raises(InputError, match="holds no finished generation"):
        packed(tmp_path / "run", tmp_path / "pack")


def test_nothing_continues_a_pack(tmp_path):
    tree = {"learner": "gaussian", "generations": 2, "data": {"size": 8}}
    lab.run(tree, tmp_path / "run", storage=FaultyStorage())
    packed(tmp_path / "run", tmp_path / "pack")
    with pytest.raises(InputError, match="holds a pack, which is reported on and merged, not continued"):
        lab.run(tree, tmp_path / "pack", storage=FaultyStorage())


def test_a_damaged_word_file_is_named(tmp_path):
    run_with(tmp_path / "run", texts=[("", "some words")])
    packed(tmp_path / "run", tmp_path / "pack")
    (cell,) = RunDirectory.open(tmp_path / "pack").generation_dirs()
    (cell.path / "words.tsv.zst").write_bytes(b"no zstd")
    with pytest.raises(InputError, match=r"words\.tsv\.zst: damaged"):
        read_words(cell)
