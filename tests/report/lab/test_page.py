import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tailkeep.report import write
from tailkeep.runs import RunDirectory, RunRecord
from tests.report.built_runs import HOSTILE_TEXT, finish, hostile_run, new_run, write_texts

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Outline(HTMLParser):
    """The tags and attributes of a page, and its text outside of <style>."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_data(self, data):
        self.text += "" if self._style else data


def outline(path):
    return Outline((path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(params=["language", "numbers", "hostile"])
def any_run(request):
    return request.getfixturevalue(request.param)


def test_the_page_loads_nothing_and_runs_nothing(any_run):
    page = outline(any_run)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base", "form", "video"})
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "src" not in attributes
        assert "srcset" not in attributes
        link = attributes.get("href") or "#"
        assert link.startswith("#") or (tag == "image" and link.startswith("data:image/png;base64,"))


def test_the_page_carries_its_content_security_policy(any_run):
    metas = [attributes for tag, attributes in outline(any_run).tags if tag == "meta"]
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in metas


def test_every_figure_has_words_for_those_who_cannot_see_it(any_run):
    figures = [attributes for tag, attributes in outline(any_run).tags if tag == "svg" and "role" in attributes]
    assert figures
    assert all(len(figure["aria-label"] or "") > 20 for figure in figures)


def test_a_figure_is_one_svg_on_the_page_and_the_same_in_its_file(any_run):
    page = (any_run / "report.html").read_text(encoding="utf-8")
    files = sorted(any_run.glob("figures/*"))
    assert {file.suffix for file in files} == {".svg"}
    for file in files:
        body = file.read_text(encoding="utf-8").partition('class="headline"')[2].partition("</text>")[2]
        assert page.count(body.removesuffix("</svg>\n")) == 1, file.name


def test_the_first_screen_is_verdict_key_three_numbers_picture_and_forest(language):
    page = (language / "report.html").read_text(encoding="utf-8")
    marks = ["<h1>", 'class="keys"', 'class="three"', "What the model still knows", "Difference from cross-entropy"]
    places = [page.index(mark) for mark in [*marks, "The tail", "When it fails", "Every arm at"]]
    assert places == sorted(places)
    assert page.count('class="big"') == 3
    assert page.count("<h1>") == 1


def test_tables_carry_the_label_of_each_cell_for_a_narrow_screen(language):
    tags = outline(language).tags
    cells = [attributes for tag, attributes in tags if tag == "td" and "data-label" in attributes]
    assert {"KR-test accuracy", "Held-out NLL, nats/token"} <= {cell["data-label"] for cell in cells}


def test_hostile_names_and_texts_are_shown_as_text(hostile):
    page = outline(hostile)
    shown = HOSTILE_TEXT.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert page.text.count(shown) >= 4
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", page.text)


def test_texts_of_the_same_prompt_stand_side_by_side(language):
    text = outline(language).text
    assert text.index("Mara Tolvin") < text.index("Once upon a time") < text.index("The clockmaker of Vessen")
    assert "A fourth prompt" not in text
    assert "(generation 0)" in text
    assert "(generation 3)" in text


def test_a_run_without_a_finished_generation_says_so(tmp_path):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=2):
        pass
    write(tmp_path / "r")
    text = outline(tmp_path / "r").text
    assert "No generation is finished yet" in text
    assert "a, seed 0: no generation finished" in text


def test_a_run_of_another_kind_without_a_config_has_a_page(tmp_path):
    record = RunRecord.of("audit", {"x": 1}, installed={"tailkeep": "0"}, seeds=())
    with RunDirectory.create(tmp_path / "r", record, config="") as run:
        (run.path / "config.yaml").unlink()
    assert record.fingerprint in write(tmp_path / "r").read_text(encoding="utf-8")


def test_credentials_in_names_and_texts_do_not_reach_the_page(tmp_path):
    token = "hf_" + "a1B2" * 8
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=1, description=f"with {token}") as run:
        write_texts(run.generation_dir("a", 0, 0), "common", [(token, f"my key is {token}")])
        finish(run.generation_dir("a", 0, 0), {"score": 1.0}, learner="custom")
    (tmp_path / "r" / ".config.yaml").unlink()  # as in a pack, where nothing records its sha256
    (tmp_path / "r" / "config.yaml").write_text(f"name: n\ntoken: {token}\n")
    assert token not in write(tmp_path / "r").read_text(encoding="utf-8")


def test_the_page_keeps_the_last_parts_of_a_path_and_not_the_folders_of_a_machine(tmp_path):
    shown = {
        "/home/someone/corpora/news/a.txt": "…/news/a.txt",
        "/home/someone/a.txt": "…/a.txt",
        "/srv/my data/two words.txt": "…/my data/two words.txt",
        "'/srv/x/tell: me'": "'…/x/tell: me'",
        "s3://bucket/one/two/three": "s3://bucket/one/two/three",
        "runs/one/two/three": "runs/one/two/three",
    }
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=1) as run:
        finish(run.generation_dir("a", 0, 0), {"score": 1.0}, learner="custom")
    config = "".join(f"key{n}: {path}\n" for n, path in enumerate(shown))
    (tmp_path / "r" / ".config.yaml").unlink()
    (tmp_path / "r" / "config.yaml").write_text(config)
    write(tmp_path / "r")
    assert "".join(f"key{n}: {path}\n" for n, path in enumerate(shown.values())) in outline(tmp_path / "r").text
    assert (tmp_path / "r" / "config.yaml").read_text() == config


@pytest.mark.parametrize(
    ("config", "command", "more"),
    [
        ({"regime": {"name": "replace"}}, "tailkeep lab config.yaml --out", ""),
        ({"loss": {"name": "code", "code": "mine:half"}}, "tailkeep lab config.yaml --allow-code --out", "code"),
        ({"metrics": [{"name": "code", "code": "mine:m"}]}, "tailkeep lab config.yaml --allow-code --out", "code"),
        ({"corpus": "/srv/texts/wiki/train.txt"}, "tailkeep lab config.yaml --out", "shortened paths"),
        # A source, an arm or an option may be called so, and hold anything.
        ({"sources": {"name": {}, "learner": {}}, "options": {"name": [1]}}, "tailkeep lab config.yaml --out", ""),
    ],
)
def test_the_command_that_reproduces_the_page_can_run(tmp_path, config, command, more):
    with new_run(tmp_path / "r", arms=["a"], seeds=(0,), generations=1, **config) as run:
        finish(run.generation_dir("a", 0, 0), {"score": 1.0}, learner="custom")
    write(tmp_path / "r")
    words = outline(tmp_path / "r").text.partition("How to reproduce this page")[2]
    assert command in words
    assert ("shortened paths" in words, "put the code" in words) == (more == "shortened paths", more == "code")


def test_the_same_generations_give_the_same_bytes(tmp_path):
    def content(path):
        write(path)
        files = [path / "report.html", *sorted(path.glob("figures/*")), *sorted(path.glob("tables/*"))]
        return {file.name: file.read_bytes() for file in files}

    one, two = (hostile_run(tmp_path / name / "run") for name in ("one", "two"))
    first = content(one)
    assert len(first) > 8
    assert first == content(two)
    assert first == content(one)


def test_unequal_training_is_said(tmp_path):
    with new_run(tmp_path / "r", arms=["a", "b"], seeds=(0,), generations=1) as run:
        finish(run.generation_dir("a", 0, 0), {"train_units": 100.0}, learner="custom")
        finish(run.generation_dir("b", 0, 0), {"train_units": 200.0}, learner="custom")
    write(tmp_path / "r")
    assert "The arms did not train equally" in outline(tmp_path / "r").text


def test_training_that_differs_by_part_of_a_batch_counts_as_equal(tmp_path):
    with new_run(tmp_path / "r", arms=["a", "b"], seeds=(0,), generations=1) as run:
        finish(run.generation_dir("a", 0, 0), {"train_units": 1000.0}, learner="custom")
        finish(run.generation_dir("b", 0, 0), {"train_units": 1005.0}, learner="custom")
    write(tmp_path / "r")
    assert "All arms trained equally, to within 0.5" in outline(tmp_path / "r").text


def test_the_package_imports_without_torch_and_draws_without_a_plotting_library():
    code = "import sys, tailkeep.report; print({'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
