"""What the site gets beside the pages of docs/: the reference, the files that pages link to, and llms.txt.

Rule: nothing is listed by hand. The reference comes from the package, the files from the links of the pages.
"""

import json
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))

import reference  # noqa: E402 - beside this file, which is no package

LINK = re.compile(r"(\]\()([^()\s#]+)(#[^()\s]*)?(\))")
CODE = re.compile(r"`[^`]*`")
FENCE = re.compile(r"^ *(```|~~~)")
CODE_HTML = re.compile(r"(<pre.*?</pre>|<code>.*?</code>)", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
TOGETHER = re.compile(r"\([-−+±]?[\d.,]+(?:e-?\d+)? to [^()<>]{1,12}\)|\b\d{4}-\d\d-\d\d\b(?![\w\"-])")
SHOWN = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".json": "json", ".jsonl": "json", ".toml": "toml"}
FILES = "files"
_PAGES: list[tuple[str, str, str]] = []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference with its part of the navigation, and a page for each file of the repository that is linked."""
    _PAGES.clear()
    sections: dict[str, list[dict[str, str]]] = {}
    for entry in reference.pages():
        files.append(File.generated(config, entry.uri, content=entry.markdown))
        sections.setdefault(entry.section, []).append({entry.title: entry.uri})
    assert config.nav is not None
    config.nav.append({"Reference": [{name: pages} for name, pages in sections.items()]})
    pages = {file.src_uri: file for file in files if file.is_documentation_page() and file.inclusion.is_included()}
    queue = [path for uri, file in pages.items() for path in linked_files(file.content_string, "docs/" + uri, files)]
    seen: set[str] = set()
    while queue:
        if (path := queue.pop()) in seen:
            continue
        seen.add(path)
        text = file_page(ROOT / path)
        files.append(File.generated(config, f"{FILES}/{path}.md", content=text))
        if path.endswith(".md"):
            queue += linked_files(text, path, files)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to the pages of those files, and note the page for llms.txt."""
    uri = page.file.src_uri
    source = uri.removeprefix(f"{FILES}/").removesuffix(".md") if uri.startswith(f"{FILES}/") else "docs/" + uri
    if not uri.startswith(f"{FILES}/"):
        _PAGES.append((title_of(markdown), page.file.dest_uri, first_sentence(markdown)))
    elif not source.endswith(".md"):
        return markdown
    return outside_fences(markdown, lambda line: rewrite(plain_pipes(line), source, uri, files))


def plain_pipes(line: str) -> str:
    r"""A row of a table without the backslash of \| in its code spans, which GitHub needs and the site would show."""
    if not line.startswith("|"):
        return line
    return CODE.sub(lambda match: match[0].replace("\\|", "|"), line)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep together what a line must not divide."""
    return keep_together(html)


def keep_together(html: str) -> str:
    """An option, an interval in brackets, a date, and a number with its per cent sign stay on one line of a page."""
    parts = CODE_HTML.split(html)
    for place, part in enumerate(parts):
        if place % 2 == 0:
            text = re.sub(r"(\d) %", "\\1\u00a0%", part)
            parts[place] = TOGETHER.sub(r'<span class="together">\g<0></span>', text)
        elif part.startswith("<code>"):
            parts[place] = OPTION.sub(r'<span class="together">\g<0></span>', part)
    return "".join(parts)


def on_nav(nav: Navigation, *, config: MkDocsConfig, files: Files) -> Navigation:
    """Keep the order of the navigation for llms.txt."""
    order = {page.file.dest_uri: number for number, page in enumerate(nav.pages)}
    config.extra["order"] = order
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt: a line per page with its title, its path and its first sentence."""
    order = config.extra["order"]
    lines = [f"- [{title}]({uri}): {sentence}" for title, uri, sentence in sorted(_PAGES, key=lambda p: order[p[1]])]
    text = f"# {config.site_name}\n\n> {config.site_description}\n\n" + "\n".join(lines) + "\n"
    (Path(config.site_dir) / "llms.txt").write_text(text, encoding="utf-8")


def title_of(markdown: str) -> str:
    """The page's first heading, without its marks."""
    match = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    return match[1].replace("`", "") if match else ""


def first_sentence(markdown: str) -> str:
    """The first sentence of the first paragraph, without links and marks."""
    body = re.sub(r"^# .+$", "", markdown, count=1, flags=re.MULTILINE)
    for part in re.split(r"\n\s*\n", body):
        if not (text := " ".join(part.split())) or part.startswith(("    ", "```", "|", "!", "#", "<", "*")):
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("**", "")
        return re.split(r"(?<=[.!?:])\s", plain)[0].rstrip(":")
    return ""


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """`markdown` with `change` applied to each line that stands in no fenced block."""
    lines, fenced = [], False
    for line in markdown.split("\n"):
        if FENCE.match(line):
            fenced = not fenced
        lines.append(line if fenced else change(line))
    return "\n".join(lines)


def repository_path(target: str, source: str) -> str | None:
    """The path in the repository that `target` in the file `source` leads to; None if it is elsewhere or nothing."""
    if ":" in target or target.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def is_shown(path: str, files: Files) -> bool:
    """Whether the file is a page or picture of the site."""
    file = files.get_file_from_path(path.removeprefix("docs/")) if path.startswith("docs/") else None
    return file is not None and file.inclusion.is_included()


def linked_files(markdown: str, source: str, files: Files) -> Iterator[str]:
    """The repository's files and folders that a page links to and that are not on the site."""
    targets: list[str] = []
    outside_fences(markdown, lambda line: targets.extend(match[2] for match in LINK.finditer(line)) or line)
    for target in targets:
        path = repository_path(target, source)
        if path and not is_shown(path, files):
            yield path


def rewrite(line: str, source: str, uri: str, files: Files) -> str:
    """`line` with its links to files of the repository as links of the page `uri`."""

    def change(match: re.Match[str]) -> str:
        path = repository_path(match[2], source)
        if path is None:
            return match[0]
        goal = path.removeprefix("docs/") if is_shown(path, files) else f"{FILES}/{path}.md"
        relative = posixpath.relpath(goal, posixpath.dirname(uri) or ".")
        return f"{match[1]}{relative}{match[3] or ''}{match[4]}"

    return LINK.sub(change, line)


def file_page(path: Path) -> str:
    """A page that shows a file of the repository: Markdown as it stands, a notebook cell by cell, else its text."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        inner = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())
        return f"# {name}\n\nA folder of the repository with these files:\n\n" + "".join(
            f"- `{one}`\n" for one in inner
        )
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        return f"# {name}\n\n" + "\n\n".join(_cell(cell) for cell in json.loads(text)["cells"]) + "\n"
    return f"# {name}\n\n````{SHOWN.get(path.suffix, 'text')}\n{text}\n````\n"


def _cell(cell: dict[str, object]) -> str:
    lines = cell["source"]
    text = "".join(lines) if isinstance(lines, list) else str(lines)
    # A heading of the notebook would be a second title of the page.
    return (
        f"````python\n{text}\n````" if cell["cell_type"] == "code" else re.sub(r"^# .*$", "", text, flags=re.MULTILINE)
    )
