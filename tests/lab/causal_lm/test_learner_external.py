"""Arms whose training text an outside model has edited or written: what is refused, what the metrics tell, resumes."""

import json

import pytest

from tailkeep import lab
from tailkeep.errors import ConfigError
from tailkeep.lab.learners import sources_of
from tests.lab.causal_lm.tiny import STORIES, config_tree, write_stories
from tests.lab.restarts import check, check_boundaries, check_two_workers, phase_boundaries, rows_of, undisturbed_run
from tests.runs.faults import Fault, FaultyStorage

EDIT = {"rule": {"threshold": 0.002}, "sampler": {"exclude_original": True}}
ARMS = {
    "unedited": {},
    "edited": {"data": {"external_edit": EDIT}},
    "random": {"data": {"external_edit": {**EDIT, "control": "random"}}},
    "synthetic": {"data": {"external_text": {"prompt_tokens": 2}}, "generations": 2},
}


def tree(text, folder, **changes):
    result = config_tree(text, device="cpu", seeds=[3], generations=1, arms=ARMS)
    return {**result, "data": {**result["data"], "prior": {"path": str(folder)}}, **changes}


@pytest.fixture(scope="module")
def config(tmp_path_factory, model_folder):
    return lab.load(tree(write_stories(tmp_path_factory.mktemp("text")), model_folder))


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    return undisturbed_run(config, tmp_path_factory.mktemp("undisturbed") / "run")


def texts_in(files, arm):
    lines = files[f"cells/{arm}/3/0/generated/0/text.jsonl"].decode().splitlines()
    return [json.loads(line)["text"] for line in lines]


# A run


def test_generation_0_tells_what_was_flagged_and_what_changed(undisturbed):
    rows = rows_of(undisturbed[1])
    edited, control = rows["edited", 0], rows["random", 0]
    assert 0 < edited["flagged_share"] == edited["changed_share"] == control["changed_share"] < 1
    assert "flagged_share" not in rows["unedited", 0]
    assert "flagged_share" not in rows["synthetic", 0]


def test_the_text_that_was_trained_on_can_be_read_and_only_training_documents_are_in_it(undisturbed):
    training = len(STORIES) - round(0.2 * len(STORIES))
    for arm in ("edited", "random", "synthetic"):
        result = texts_in(undisturbed[1], arm)
        assert len(result) == training
        assert result != STORIES[:training]
    assert not any(name.startswith("cells/unedited/3/0/generated") for name in undisturbed[1])


def test_arms_read_as_many_tokens_of_one_tokenizer_whatever_was_made_of_the_text(undisturbed):
    rows = rows_of(undisturbed[1])
    units = [rows[arm, 0]["train_units"] for arm in ARMS]
    assert max(units) < 1.2 * min(units)
    files = undisturbed[1]
    (tokenizer,) = {files[f"cells/{arm}/3/0/model/tokenizer.json"] for arm in ARMS if arm != "synthetic"}
    assert tokenizer


def test_under_replace_the_next_generation_reads_what_the_first_has_written(undisturbed):
    inside = "cells/synthetic/3/1/generated/"
    assert {name.removeprefix(inside).split("/")[0] for name in undisturbed[1] if name.startswith(inside)} == {"1"}


def test_a_run_killed_behind_an_outside_edit_resumes_to_the_same_bytes(config, undisturbed, tmp_path):
    boundaries = [n for n in phase_boundaries(undisturbed[0]) if undisturbed[0][n - 1][1].name == "generated"]
    assert len(boundaries) == 4
    check(config, undisturbed, tmp_path / "run", Fault(boundaries[0] + 1, "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_killed_at_every_phase_boundary_resumes_to_the_same_bytes(after, config, undisturbed, tmp_path):
    check_boundaries(config, undisturbed, tmp_path, after=after)


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(config, undisturbed, tmp_path):
    check_two_workers(config, undisturbed, tmp_path / "run")


def test_the_priors_content_is_in_the_fingerprint_and_its_path_is_not(config, model_folder, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in model_folder.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    text = write_stories(tmp_path)
    original, copied = (sources_of(lab.load(tree(text, folder))) for folder in (model_folder, moved))
    assert original == copied
    assert original["edited"].inputs["data"]["prior"]["path"].startswith("sha256:")
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    assert sources_of(lab.load(tree(text, moved))) != original


# Records


def test_of_records_only_the_answers_are_edited_learnt_and_measured(model_folder, tmp_path):
    path = tmp_path / "records.jsonl"
    lines = [{"question": f"What is told at place {n}?", "answer": text} for n, text in enumerate(STORIES)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"name": "text", "path": str(path), "text_field": "answer", "prompt_field": "question", "held_out": 0.2}
    arms = {"unedited": {}, "edited": {"data": {"external_edit": EDIT}}}
    edited_data = {**data, "prior": {"path": str(model_folder)}}
    directory = lab.run(tree("", model_folder, data=edited_data, arms=arms), tmp_path / "run", storage=FaultyStorage())
    unedited, edited = (directory.generation_dir(arm, 3, 0).metrics()["metrics"] for arm in arms)
    assert "held_out_nll_tempered" not in unedited
    assert unedited["train_units"] < 0.9 * unedited["train_data_units"]
    assert 0 < edited["changed_share"] < 1
    edited_lines = (tmp_path / "run/cells/edited/3/0/generated/0/text.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"].strip() for line in edited_lines] == [
        line["question"] for line in lines[: len(edited_lines)]
    ]
    # Samples answer the whole questions of held-out records.
    sampled = (tmp_path / "run/cells/unedited/3/0/samples/common/text.jsonl").read_text().splitlines()
    questions = {line["question"] for line in lines[round(0.8 * len(lines)) :]}
    assert {json.loads(line)["prompt"].strip() for line in sampled} <= questions


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"prior": None, "external_edit": {}}},
            "external_edit and external_text need an external model. Set data.prior.path",
        ),
        (
            {"data": {"external_edit": {}, "external_text": {}}},
            "external_edit and external_text each replace the training text",
        ),
        (
            {"data": {"external_edit": {}}, "generations": 2, "regime": {"name": "accumulate"}},
            "trains on real text",
        ),
        ({"data": {"external_edit": {}}, "regime": {"name": "regenerate"}}, "trains on real text"),
        (
            {"data": {"external_edit": {"rule": {"name": "random", "share": 0.1}, "control": "random"}}},
            "control has no effect",
        ),
        ({"data": {"external_edit": {"sampler": {"top_p": 0.9}}}}, "only the original could be sampled"),
        ({"data": {"prompt_field": "question"}}, "prompt_field has no effect on plain text"),
        ({"data": {}}, "data.prior has no effect: no arm here has data.external_edit or data.external_text"),
    ],
)
def test_a_choice_that_cannot_work_is_told_in_one_line(changes, message, model_folder, tmp_path):
    with pytest.raises(ConfigError) as caught:
        lab.load(tree(write_stories(tmp_path), model_folder, arms={"one": changes}))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_records_are_for_one_training_and_stay_apart(model_folder, tmp_path):
    data = {"name": "text", "path": "records.jsonl", "prompt_field": "question"}
    for changes in ({"generations": 2}, {"generation": {"form": {"name": "windows"}}}):
        with pytest.raises(ConfigError, match="records"):
            lab.load({**config_tree(""), "generations": 1, "data": data, **changes})


def test_ecosystems_read_real_text(model_folder, tmp_path):
    member = {"share": 0.5, "model": {"name": "scratch"}}
    with pytest.raises(ConfigError, match=r"data\.external_edit is for single models"):
        lab.load(
            {
                **tree(write_stories(tmp_path), model_folder),
                "learner": "ecosystem",
                "model": None,
                "members": [{"name": "a", **member}, {"name": "b", **member}],
                "arms": {"edited": {"data": {"external_edit": {}}}},
            }
        )
