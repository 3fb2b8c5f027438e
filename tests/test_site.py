"""The site of docs/: it builds without a warning, its links lead somewhere, and the reference leaves nothing out."""

import copy
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from tailkeep.runs import hash_tree
from tests.report.built_runs import finish, new_run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))
MAX_WORDS = 1500
MAX_SECONDS = 60


def load(name):
    """A module of docs/, which is no package."""
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


class Links(HTMLParser):
    """The links, pictures and anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.anchors, self.words = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.targets += [attrs[key] for key in ("href", "src") if attrs.get(key)]


def broken_links(site):
    """Each link or picture of a site that leads to no file or anchor, as (page, target)."""
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        # The page for unknown addresses is served at any depth.
        for target in () if path.name == "404.html" else page.targets:
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            goal = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            goal = goal / "index.html" if goal.is_dir() else goal
            known = pages.get(goal)
            if not goal.exists() or (anchor and known and unquote(anchor) not in known.anchors):
                broken.append((path.relative_to(site).as_posix(), target))
    return broken


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The built site, what the build printed, and the processor time that it took (s)."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    before = os.times()
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert ended.returncode == 0, ended.stderr[-3000:]
    return site, ended.stderr, seconds


@pytest.fixture(scope="module")
def reference(build):
    module = load("reference")
    pages = list(module.pages())
    by_uri = {page.uri: page for page in pages}
    assert len(by_uri) == len(pages)
    return module, by_uri


@pytest.mark.slow
def test_the_site_builds_without_a_warning_in_a_minute(build):
    _, printed, seconds = build
    assert "warning" not in printed.lower()
    assert seconds < MAX_SECONDS


@pytest.mark.slow
def test_every_link_and_anchor_of_the_site_leads_somewhere(build):
    assert broken_links(build[0]) == []


def test_a_broken_link_and_a_missing_anchor_are_reported(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a><a href="b.html#gone">y</a><img src="c.svg">')
    (tmp_path / "b.html").write_text('<h2 id="there">z</h2><a href="https://example.org">e</a><a href="#there">s</a>')
    assert broken_links(tmp_path) == [("a.html", "b.html#gone"), ("a.html", "c.svg")]


@pytest.mark.slow
def test_llms_txt_has_a_line_with_a_sentence_for_every_page(build):
    site = build[0]
    lines = re.findall(r"^- \[(.+)\]\((.+)\): (.+)$", (site / "llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    listed = [path for _, path, _ in lines]
    assert len(listed) == len(set(listed))
    assert set(listed) == {path for path in pages if not path.startswith("files/")} - {"404.html"}


def words_without_a_picture(text):
    """How many words a page has; 0 if it has a picture."""
    return 0 if re.search(r"!\[[^\]]+\]\([^)]+\)", text) else len(text.split())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_a_page_of_more_than_1500_words_has_a_picture(path):
    assert words_without_a_picture(path.read_text(encoding="utf-8")) <= MAX_WORDS


@pytest.mark.slow
def test_no_page_of_the_reference_is_longer(reference):
    assert {uri: size for uri, page in reference[1].items() if (size := len(page.markdown.split())) > MAX_WORDS} == {}


def test_the_rule_of_words_and_pictures_can_fail():
    assert words_without_a_picture("word " * 1501) > MAX_WORDS
    assert words_without_a_picture("word " * 1501 + "![what it shows](a.svg)") == 0


@pytest.mark.slow
def test_every_option_of_every_command_is_in_the_reference(reference):
    module, pages = reference
    missing = [
        (path, option)
        for path, command in module.commands()
        for parameter in module.options(command)
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
        and not re.search(rf"^\|[^|]*`{option}`", section(pages[uri_of(path)].markdown, path), re.MULTILINE)
    ]
    assert {path[1] for path, _ in module.commands()} >= {"lab", "edit", "audit", "forecast", "report"}
    assert missing == []


def uri_of(path):
    return f"reference/cli/{path[1]}.md"


def section(markdown, path):
    """The part of a page about one command of a group, else the whole page."""
    return markdown.partition(f"## {' '.join(path)}\n")[2].partition("\n## ")[0] if len(path) > 2 else markdown


@pytest.mark.slow
def test_every_key_of_every_configuration_is_in_the_reference(reference):
    from tailkeep.config import Settings

    _, pages = reference
    config = sys.modules["reference_config"]
    text = {uri: page.markdown for uri, page in pages.items() if page.section == "Configuration"}
    roots = config.roots()
    assert {root.__name__ for root in roots} >= {"LabConfig", "EditConfig", "AuditConfig", "ForecastConfig"}
    models = {one.model for root in roots for one in config.sections(root)}
    # By another way than that of the reference: what pydantic's own schema of the configuration defines.
    for root in roots:
        for name, part in root.model_json_schema().get("$defs", {}).items():
            if "properties" in part:
                assert name in {model.__name__ for model in models}, f"{root.__name__}: {name} has no section"
    for model in models:
        assert issubclass(model, Settings)
        (place,) = [part for part in text.values() if f'<a id="{config.anchor(model)}"></a>' in part]
        table = place.partition(f'<a id="{config.anchor(model)}"></a>')[2].partition("<a id=")[0]
        rows = {
            row.split("|")[1].strip(): row.split("|")[-2].strip() for row in table.splitlines() if row.count("|") > 4
        }
        keys = [f"`{field.alias or key}`" for key, field in model.model_fields.items()]
        assert [key for key in keys if not rows.get(key)] == [], f"{model.__name__}: no row or no meaning"


@pytest.mark.slow
def test_the_public_names_of_every_room_are_in_the_reference(reference):
    module, pages = reference
    text = "\n".join(page.markdown for page in pages.values() if page.section == "Python")
    names = {name for room in module.public_names().values() for name in room}
    assert {name for name in names if f"\n## {name}\n" not in text} == set()
    assert {"attach", "truncated_cross_entropy", "LabConfig", "CausalLMScorer"} <= names


def test_the_figures_of_pages_are_those_of_their_tables():
    command = [sys.executable, str(DOCS / "page_figures.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_leaderboard_is_that_of_its_packs():
    command = [sys.executable, str(DOCS / "leaderboard.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_pack_with_another_baseline_or_none_is_no_entry_of_a_board(tmp_path):
    module = load("leaderboard")
    board = DOCS / "results" / "leaderboard" / "demo"
    mine = shutil.copytree(board / "tailkeep", tmp_path / "mine")
    record = json.loads((mine / "run.json").read_text(encoding="utf-8"))
    for change, message in (
        (lambda arms: arms["baseline"]["training"].update(epochs=1.0), "training.epochs"),
        (lambda arms: arms["truncated"]["evaluation"].update(samples=9), "evaluation of truncated"),
        (lambda arms: arms.pop("baseline"), "has no arm 'baseline'"),
    ):
        changed = copy.deepcopy(record)
        change(changed["sources"]["arms"])
        changed["fingerprint"] = hash_tree(changed["sources"])
        (mine / "run.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(SystemExit, match=message):
            module.check_arms(board, [board / "tailkeep", mine])


def board_of(path, *runs):
    """A board of packs, each arm -> whether it has a KR-test, with one seed and one generation."""
    for number, arms in enumerate(runs):
        with new_run(path / f"pack-{number}", arms=arms, seeds=(0,), generations=1) as run:
            for arm, has_test in arms.items():
                metrics = {"held_out_nll": 2.0, **({"kr_accuracy": 0.75} if has_test else {})}
                finish(run.generation_dir(arm, 0, 0), metrics, learner="causal_lm")
    return path


def test_an_entry_with_one_seed_has_no_interval_of_no_numbers(tmp_path, monkeypatch):
    module = load("leaderboard")
    monkeypatch.setattr(module, "check_arms", lambda board, packs: None)
    rows = module.table(board_of(tmp_path, {"baseline": True, "mine": True})).splitlines()[2:]
    assert rows == [
        "| `baseline` | 0.750 |  | 2.00 |  | 0 | 1 |",
        "| `mine` | 0.750 | 0 | 2.00 | 0 | 0 | 1 |",
    ]


def test_an_arm_of_two_packs_and_a_pack_without_a_kr_test_are_no_entries(tmp_path, monkeypatch):
    module = load("leaderboard")
    monkeypatch.setattr(module, "check_arms", lambda board, packs: None)
    with pytest.raises(SystemExit, match=r"pack-0: the board twice has another arm 'mine'"):
        module.table(board_of(tmp_path / "twice", *[{"baseline": True, "mine": True}] * 2))
    with pytest.raises(SystemExit, match="pack-0 has no KR-test"):
        module.table(board_of(tmp_path / "none", {"baseline": False}))


def test_every_entry_of_the_log_is_in_its_index():
    index = (DOCS / "log" / "index.md").read_text(encoding="utf-8")
    entries = [
        (path.name, heading)
        for path in sorted((DOCS / "log").glob("*.md"))
        for heading in re.findall(r"^## (\d{4}-.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(entries) >= 37
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for _, heading in entries]
    links = [f"({name}#{slug})" for (name, _), slug in zip(entries, slugs, strict=True)]
    assert [link for link in links if link not in index] == []
    assert index.count("| 20") == len(entries)


def test_no_line_divides_an_option_an_interval_or_a_number_from_its_per_cent_sign():
    pytest.importorskip("mkdocs")
    page = "<td>0.68 (0.47 to 0.83), 5 %</td><code>edit --dry-run 10</code><pre><code>lab --out DIR: 5 %</code></pre>"
    assert load("hooks").keep_together(page) == (
        '<td>0.68 <span class="together">(0.47 to 0.83)</span>, 5\u00a0%</td>'
        '<code>edit <span class="together">--dry-run</span> 10</code><pre><code>lab --out DIR: 5 %</code></pre>'
    )


def test_every_page_is_in_the_navigation():
    # The navigation alone: the rest of mkdocs.yml names Python objects.
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text[text.index("\nnav:") :])["nav"]

    def leaves(node):
        if isinstance(node, str):
            yield node
        else:
            for one in node.values() if isinstance(node, dict) else node:
                yield from leaves(one)

    assert sorted(leaves(nav)) == sorted(path.relative_to(DOCS).as_posix() for path in PAGES)
