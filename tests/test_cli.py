import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from tailkeep import __version__, cli, lab
from tailkeep.runs import RunDirectory
from tests.lab.causal_lm.tiny import config_tree, write_stories
from tests.report.built_runs import HOSTILE_TEXT, finish, new_run, write_texts
from tests.runs.test_full_disk import on_small_disk

ROOT = Path(__file__).parents[1]
SMALL = {
    "name": "small",
    "learner": "gaussian",
    "generations": 3,
    "data": {"name": "normal", "size": 20, "chains": 4},
    "arms": {"baseline": {}, "cut": {"truncate": {"name": "density", "threshold": 0.85}}},
}


@pytest.fixture
def recipe(tmp_path):
    return write(tmp_path / "small.yaml", SMALL)


def write(path, tree):
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path


def real(*arguments, code="", environment=None):
    """The command in a process of its own, after `code` has been run there."""
    run = f"import sys; {code}\nsys.argv = ['tailkeep', *sys.argv[1:]]\nfrom tailkeep.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", run, *map(str, arguments)],
        check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})},
    )  # fmt: skip


def blocked(*packages):
    """Code after which `packages` are as if they were not installed."""
    return (
        "\nclass Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name.split('.')[0])\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )


# What works


def test_a_run_prints_its_results_and_says_the_rest_on_stderr(tailkeep, recipe, tmp_path):
    code, out, err = tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)
    assert code == 0
    assert "baseline" in out
    assert "cut" in out
    assert out.splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run" / "report.html").is_file()
    assert re.search(r"^6/6 cells, \d+ s, about 0 s left \(cut seed 0 generation 2\)$", err, re.MULTILINE)
    assert "cells" not in out


def test_a_finished_run_can_be_run_again(tailkeep, recipe, tmp_path):
    codes = [tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)[0] for _ in range(2)]
    assert codes == [0, 0]


def test_a_report_can_be_written_again_from_the_run_alone(tailkeep, recipe, tmp_path):
    tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)
    (tmp_path / "run" / "report.html").unlink()
    code, out, err = tailkeep("report", tmp_path / "run")
    assert (code, err) == (0, "")
    assert out.endswith(f"report: {tmp_path / 'run' / 'report.html'}\n")
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_pack_is_reported_on_like_its_run_and_stays_as_it_is(tailkeep, recipe, tmp_path):
    _, of_run, _ = tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)
    code, out, err = tailkeep("pack", tmp_path / "run")
    assert (code, err) == (0, "")
    assert re.fullmatch(rf"pack: {tmp_path / 'run-pack'} \(6 generations, \d+ kB\)\n", out)
    files = sorted((tmp_path / "run-pack").rglob("*"))
    code, of_pack, err = tailkeep("report", tmp_path / "run-pack")
    assert (code, err) == (0, "")
    assert of_run == f"{of_pack}report: {tmp_path / 'run' / 'report.html'}\n"
    assert sorted((tmp_path / "run-pack").rglob("*")) == files


def test_runs_are_merged_and_reported_on_together(tailkeep, recipe, tmp_path):
    for seed in (0, 1):
        tailkeep("lab", recipe, "--set", f"seeds=[{seed}]", "--out", tmp_path / str(seed), "--workers", 1)
    code, out, err = tailkeep("merge", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "both")
    assert (code, err, out) == (0, "", f"merged: {tmp_path / 'both'} (12 generations of 2 runs)\n")
    _, of_both, _ = tailkeep("report", tmp_path / "both")
    code, together, err = tailkeep("report", tmp_path / "0", tmp_path / "1")
    assert (code, err) == (0, "")
    assert of_both == f"{together}report: {tmp_path / 'both' / 'report.html'}\n"
    assert refused(tailkeep("merge", tmp_path / "0", "--out", tmp_path / "x"), "give two or more runs")


def test_a_run_is_shown_with_its_name_and_its_arms(tailkeep, recipe, tmp_path):
    tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)
    code, out, err = tailkeep("show", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "small" in out
    assert "cut" in out


def test_the_list_names_every_recipe_with_what_it_shows(tailkeep):
    code, out, err = tailkeep("lab", "--list")
    assert (code, err) == (0, "")
    for recipe in lab.list_recipes():
        assert recipe.name in out
        assert recipe.description.split()[0] in out


def test_the_version_is_printed(tailkeep):
    assert tailkeep("--version") == (0, f"{__version__}\n", "")


def test_a_dumped_configuration_is_the_same_run(tailkeep, recipe, tmp_path):
    tailkeep("lab", recipe, "--set", "generations=2", "--out", tmp_path / "one", "--workers", 1)
    code, out, err = tailkeep("lab", recipe, "--set", "generations=2", "--dump-config")
    assert (code, err) == (0, "")
    (tmp_path / "dumped.yaml").write_text(out, encoding="utf-8")
    code, again, _ = tailkeep("lab", tmp_path / "dumped.yaml", "--dump-config")
    assert again == out
    assert tailkeep("lab", tmp_path / "dumped.yaml", "--out", tmp_path / "one", "--workers", 1)[0] == 0
    tailkeep("lab", tmp_path / "dumped.yaml", "--out", tmp_path / "two", "--workers", 1)
    one, two = (RunDirectory.open(tmp_path / name).record.fingerprint for name in ("one", "two"))
    assert one == two


def test_the_chosen_arms_alone_are_run_in_the_order_of_the_file(tailkeep, recipe, tmp_path):
    code, out, _ = tailkeep("lab", recipe, "--arms", " cut , baseline", "--dump-config")
    assert code == 0
    assert list(yaml.safe_load(out)["arms"]) == ["baseline", "cut"]
    assert tailkeep("lab", recipe, "--arms", "cut", "--out", tmp_path / "run", "--workers", 1)[0] == 0
    assert {cell.arm for cell in RunDirectory.open(tmp_path / "run").generation_dirs()} == {"cut"}


@pytest.mark.parametrize("name", ["demo", "gaussian", "mixture"])
def test_a_packaged_recipe_can_be_dumped_and_dumped_again(tailkeep, name, tmp_path):
    _, out, _ = tailkeep("lab", name, "--dump-config")
    (tmp_path / "dumped.yaml").write_text(out, encoding="utf-8")
    assert tailkeep("lab", tmp_path / "dumped.yaml", "--dump-config") == (0, out, "")


def test_a_world_is_written_and_every_file_named(tailkeep, tmp_path):
    code, out, err = tailkeep("world", "--out", tmp_path / "world", "--no-prior", "--set", "people=5")
    assert (code, err) == (0, "")
    assert out.split() == [str(tmp_path / "world" / name) for name in ("corpus.txt", "held_out.txt", "kr_test.json")]
    assert json.loads((tmp_path / "world" / "kr_test.json").read_text())


def test_a_world_says_what_takes_long_before_it_starts(tailkeep, tmp_path, monkeypatch):
    def cut_short(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tailkeep.lab.make_world.build_experiment", cut_short)
    code, out, err = tailkeep("world", "--out", tmp_path / "world", "--set", "documents=7")
    assert (code, out) == (130, "")
    assert err.startswith("training a small prior on 7 documents (about half a minute for 1000) ...\n")


def test_a_world_that_is_refused_says_nothing_else(tailkeep, tmp_path):
    assert refused(tailkeep("world", "--out", tmp_path / "world", "--set", "peple=7"), "^error: world: unknown key")


def test_each_command_has_an_override_of_its_own_as_an_example(tailkeep):
    helps = {command: " ".join(tailkeep(command, "--help")[1].split()) for command in ("lab", "world")}
    assert "preset=full" in helps["lab"]
    assert "preset=full" not in helps["world"]
    assert "people=100" in helps["world"]


def test_hostile_text_is_shown_and_does_nothing(tailkeep, tmp_path):
    with new_run(tmp_path / "run", arms=["baseline"], seeds=(0,), generations=1, description=HOSTILE_TEXT) as run:
        cell = run.generation_dir("baseline", 0, 0)
        write_texts(cell, "common", [(HOSTILE_TEXT, HOSTILE_TEXT)])
        finish(cell, {"held_out_nll": 1.0}, learner="causal_lm")
    code, out, _ = tailkeep("show", tmp_path / "run")
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[31mred" in out
    assert "[bold]not" in out


# What is refused: one clear message on stderr, nothing on stdout, no traceback


def refused(result, message, code=2):
    assert result[0] == code, result
    assert result[1] == ""
    assert "Traceback" not in result[2]
    assert re.search(message, result[2]), result[2]
    return True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("generatons=2", r"^error: --set: unknown key 'generatons'\. Did you mean 'generations'\?$"),
        ("truncate={name: density, threshold: 0}", r"truncate.*threshold.*greater than 0 \(received 0\)"),
        ("seeds=[0, 0]", "a seed is listed twice"),
        ("data.size=many", "data.size"),
        ("regime.name=replac", "'replac' is unknown. Did you mean 'replace'"),
        ("learner=gausian", "'gausian' is unknown. Did you mean 'gaussian'"),
        ("seeds=0", r"^error: --set: seeds: expected a list of whole numbers, such as \[0, 1, 2\] \(received 0\)$"),
        ("arms.basline.generations=2", r"^error: --set arms.basline: there is no such arm. Did you mean 'baseline'"),
        (
            "arms.cut=null",
            r"^error: --set arms.cut=null: it sets no key of the arm. To choose arms.*: --arms NAME,NAME",
        ),
        ("no-assignment", "no-assignment"),
    ],
)
def test_a_key_or_value_that_cannot_be_used_is_one_clear_error(tailkeep, recipe, tmp_path, change, message):
    assert refused(tailkeep("lab", recipe, "--set", change, "--out", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lab", "demmo", "--out", "x"], r"^error: no recipe is called 'demmo'\. Did you mean 'demo'\?"),
        (["lab", "nowhere.yaml", "--out", "x"], r"^error: cannot read nowhere.yaml: No such file"),
        (["lab", "tinystories", "--out", "x"], r"the key 'data.path' is missing.*--set data.path="),
        (["lab", "tinystories", "--out", "x", "--set", "data.path=a"], r"the key 'model.path' is missing"),
        (["lab", "gaussian"], "--out"),
        (["lab"], r"NAME\|FILE"),
        (["lab", "gaussian", "--out", "x", "--workers", "-1"], "--workers"),
        (["lab", "gaussian", "--bogus"], "--bogus"),
        (
            ["lab", "gaussian", "--out", "x", "--arms", "basline"],
            r"^error: --arms: there is no arm 'basline'. Did you mean 'basel",
        ),
        (
            ["lab", "gaussian", "--out", "x", "--arms", "baseline,"],
            r"^error: --arms: there is no arm ''. Known: baseline, ",
        ),
        (["lab", "gaussian", "--out", "x", "--arms", ""], r"^error: --arms: there is no arm ''"),
        (["nonsense"], "nonsense"),
        (["report"], "DIR"),
        (["world"], "--out"),
        (["world", "--out", "x", "--set", "peple=3"], "unknown key 'peple'. Did you mean 'people'"),
    ],
)
def test_a_command_that_cannot_be_run_is_one_clear_error(tailkeep, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert refused(tailkeep(*arguments), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["report", "show"])
def test_a_folder_that_is_no_run_is_named(tailkeep, tmp_path, verb):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert refused(tailkeep(verb, folder), rf"^error: {re.escape(str(folder))} holds no run.json")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_yaml_is_named_with_its_line(tailkeep, tmp_path):
    (tmp_path / "broken.yaml").write_text("seeds: [0\nlearner: x")
    assert refused(
        tailkeep("lab", tmp_path / "broken.yaml", "--out", tmp_path / "run"), "broken.yaml, line 2: not YAML"
    )


def test_another_configuration_is_refused_with_what_differs(tailkeep, recipe, tmp_path):
    tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)
    result = tailkeep("lab", recipe, "--set", "data.size=7", "--out", tmp_path / "run", "--workers", 1)
    assert refused(result, r"holds another run. What differs:\n  arms.baseline.data.size: 20 there, 7 here", code=3)


def test_a_seed_is_added_and_an_arm_computed_again_on_request(tailkeep, recipe, tmp_path):
    arguments = ("lab", recipe, "--out", tmp_path / "run", "--workers", 1)
    tailkeep(*arguments)
    again = ("--set", "arms.cut.generations=2", "--recompute", "cut")
    assert refused(tailkeep(*arguments, "--set", "seeds=[7]", *again), r"Name them all, with --set seeds=\[0,7\]")
    code, out, _ = tailkeep(*arguments, "--set", "seeds=[0,7]", *again)
    assert code == 0
    assert len(list((tmp_path / "run").glob("cells/*/7/*/DONE"))) == 5
    assert (tmp_path / "run" / "set_aside" / "cut-1" / "0" / "2" / "DONE").exists()
    assert "This run grew" in out


def test_a_folder_of_other_things_is_left_alone(tailkeep, recipe, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    assert refused(tailkeep("lab", recipe, "--out", tmp_path / "letters"), "holds other things, such as 'dear.txt'")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]


LANGUAGE_FAULTS = {
    "missing file": ({"data": {"path": "nowhere.txt"}}, "nowhere.txt"),
    "empty corpus": ({"data": {"path": "empty.txt"}}, "empty.txt holds no document"),
    "one document": ({"data": {"separator": "file"}}, r"1 document\(s\) cannot be split into real and held-out ones"),
    "not text": ({"data": {"path": "binary.txt"}}, "binary.txt, line 2: not UTF-8: byte 0xff"),
    "shorter than a block": ({"training": {"block": 500}}, "shorter than one block of 500. Give more text"),
    "threshold 0": (
        {"loss": {"name": "truncated", "threshold": 0}},
        r"loss.threshold: .*greater than 0 \(received 0\)",
    ),
    "threshold 1.5": ({"loss": {"name": "truncated", "threshold": 1.5}}, r"loss.threshold: .* \(received 1.5\)"),
    "no tokenizer": ({"model": {"name": "pretrained", "path": "bare"}, "tokenizer": {}}, "bare holds no tokenizer"),
    "pickled model": (
        {"model": {"name": "pretrained", "path": "pickled"}, "tokenizer": {}},
        r"holds no \*.safetensors",
    ),
    "no model": ({"model": {"name": "pretrained", "path": "letters"}, "tokenizer": {}}, "letters holds no config.json"),
    "no such model": (
        {"model": {"name": "pretrained", "path": "no/where/at/all"}, "tokenizer": {}},
        "there is no folder no/where/at/all",
    ),
    "missing questions": ({"data": {"kr_test": "nowhere.json"}}, "nowhere.json"),
}


@pytest.mark.parametrize("fault", LANGUAGE_FAULTS)
def test_a_language_study_that_cannot_start_is_one_clear_error(tailkeep, tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    write_stories(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"Ann\n\xff\xfe")
    for folder, files in {"bare": ["config.json", "model.safetensors"], "letters": [], "pickled": PICKLED}.items():
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).write_text("{}")
    change, message = LANGUAGE_FAULTS[fault]
    tree = config_tree("stories.txt")
    data = {**tree["data"], **change.get("data", {})}
    write(tmp_path / "study.yaml", {**tree, **change, "data": data})
    assert refused(tailkeep("lab", "study.yaml", "--out", "run", "--workers", 1), message)
    assert not (tmp_path / "run").exists()


PICKLED = ["config.json", "pytorch_model.bin", "tokenizer.json"]


def test_a_credential_in_an_error_is_not_printed(tailkeep, tmp_path):
    result = tailkeep("lab", tmp_path / "hf_abcdefghijklmnopqrstuvwx.yaml", "--out", tmp_path / "run")
    assert refused(result, "cannot read")
    assert "abcdefghijkl" not in result[2]


def test_an_escape_in_an_error_is_shown_and_does_nothing(tailkeep, tmp_path):
    result = tailkeep("lab", tmp_path / "\x1b[31mred.yaml", "--out", tmp_path / "run")
    assert refused(result, r"\\x1b\[31mred")
    assert "\x1b" not in result[2]


def test_an_interrupt_ends_with_130_and_says_how_to_go_on(tailkeep, recipe, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "run", interrupted)
    result = tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)
    assert refused(result, "interrupted: run the same command again", code=130)


def test_a_terminated_command_ends_as_an_interrupted_one(tailkeep, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "run", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert tailkeep("lab", recipe, "--out", tmp_path / "run", "--workers", 1)[0] == 130


FULL_DISK = f"""
import sys, yaml
from pathlib import Path
disk = Path(sys.argv[1])
(disk / "small.yaml").write_text(yaml.safe_dump({SMALL!r}))
(disk / "ballast").write_bytes(bytes(45 * 4096))
from tailkeep.cli import main
def run():
    sys.argv = ["tailkeep", "lab", str(disk / "small.yaml"), "--out", str(disk / "run"), "--workers", "1"]
    main()
try:
    run()
except SystemExit as end:
    print("code", end.code, file=sys.stderr)
    assert end.code == 2, end.code
else:
    raise AssertionError("the disk was large enough")
"""


def test_a_full_disk_is_one_clear_error(tmp_path, capfd):
    on_small_disk(FULL_DISK, tmp_path)


# What is loaded


@pytest.mark.parametrize("arguments", [["--help"], ["lab", "--help"], ["--version"], ["lab", "--list"]])
def test_help_loads_no_torch(arguments):
    code = (
        "import atexit\n"
        "def loaded(): print([m for m in ('torch', 'transformers', 'sklearn') if m in sys.modules])\n"
        "atexit.register(loaded)"
    )
    ended = real(*arguments, code=code)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"


NOTHING = ("torch", "transformers", "accelerate", "tokenizers", "sklearn")


@pytest.mark.parametrize("learner", ["gaussian", "regression"])
def test_learners_of_closed_form_need_no_torch(learner, recipe, tmp_path):
    if learner == "regression":
        recipe = tmp_path / "regression.yaml"
        recipe.write_text("learner: regression\ngenerations: 2\ndata: {chains: 3}\n")
    ended = real("lab", recipe, "--out", tmp_path / "run", "--workers", 1, code=blocked(*NOTHING))
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["lab", "demo"], ["torch"], "hf"),
        (["lab", "demo"], ["transformers"], "hf"),
        (["lab", "mixture"], ["sklearn"], "mixture"),
        (["lab", "mixture-sweep"], ["sklearn"], "mixture"),
        (["lab", "vae"], ["torch"], "images"),
        (["lab", "vae", "--workers", 1], ["torch"], "images"),
        (["lab", "vae"], ["sklearn"], "images"),
        (["world"], NOTHING, "hf"),
    ],
)
def test_a_missing_extra_is_named_with_its_install_line(arguments, missing, extra, tmp_path):
    ended = real(*arguments, "--out", tmp_path / "run", code=blocked(*missing))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert f"{missing[0]} is not installed" in ended.stderr
    assert f"pip install 'tailkeep[{extra}]'" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["edit", "--bogus"], "No such option: --bogus (Possible options: --out). See tailkeep edit --help."),
        (["frobnicate"], "No such command 'frobnicate'. See tailkeep --help."),
        (["lab", "--out"], "Option '--out' requires an argument."),
        (["merge"], "Missing argument 'RUN...'. See tailkeep merge --help."),
        (["kr-test", "--bogus"], "No such option: --bogus. See tailkeep kr-test --help."),
        (["pack", "x", "--out", "y", "--x=hf_" + "aB3" * 12], "No such option: --x. See tailkeep pack --help."),
        (["hf_" + "aB3" * 12], "No such command '[redacted]'. See tailkeep --help."),
        (["labb"], "No such command 'labb'. Did you mean 'lab'? See tailkeep --help."),
    ],
)
def test_a_wrong_command_is_one_line_without_credentials(tailkeep, arguments, line):
    assert tailkeep(*arguments) == (2, "", f"error: {line}\n")


def test_the_command_alone_shows_its_help(tailkeep):
    code, shown, told = tailkeep()
    assert (code, told) == (2, "")
    assert "Usage: tailkeep" in shown


def test_the_module_is_the_command():
    ended = subprocess.run(
        [sys.executable, "-m", "tailkeep", "lab", "--list"], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0
    assert "gaussian" in ended.stdout


def test_the_version_is_stated_in_one_place():
    stated = re.compile(rf"\b{re.escape(__version__)}\b")
    files = [ROOT / name for name in ("pyproject.toml", "CITATION.cff", "README.md", "src/tailkeep/__init__.py")]
    assert [path.name for path in files if stated.search(path.read_text(encoding="utf-8"))] == ["__init__.py"]


def options_of(command):
    """The options of `command` and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


def test_every_option_that_a_text_of_the_package_names_exists():
    named = {
        (option, path.name)
        for path in (ROOT / "src").rglob("*.py")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text())
    }
    others = {"--upgrade", "--help"}
    options = options_of(typer.main.get_command(cli.app)) | others
    assert {"--input", "--on-error"} < options
    assert sorted(name for name in named if name[0] not in options) == []


@pytest.mark.parametrize(
    ("line", "completed"), [("tailkeep aud", ["audit"]), ("tailkeep lab gau", ["gaussian", "gaussian-theory"])]
)
def test_a_shell_completes_commands_and_recipes(line, completed):
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TAILKEEP_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", "import sys; sys.argv = ['tailkeep']; from tailkeep.cli import main; main()"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    assert sorted(ended.stdout.split()) == completed
