"""Writes the file list of docs/architecture.md from the first line of each module's docstring.

python docs/architecture.py            rewrites the list
python docs/architecture.py --check    exits with 1 if the page has another list
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- file list: begin (python docs/architecture.py) -->\n", "<!-- file list: end -->\n"


def first_line(path: Path) -> str:
    """The first sentence of the module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = " ".join(text.split("\n\n")[0].split())
    return line.replace("et al. ", "et al.\N{NO-BREAK SPACE}").split(". ")[0].split(" Rule:")[0].rstrip(".:")


def file_list(source: Path) -> str:
    """The files below `source`, a table for each folder."""
    lines: list[str] = []
    folders = [source, *sorted(path for path in source.rglob("*") if path.is_dir() and any(path.glob("*.py")))]
    for folder in folders:
        name = folder.relative_to(source.parent).as_posix()
        lines += ["", f"### `{name}/`", "", f"{first_line(folder / '__init__.py')}."]
        files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        if files:
            lines += ["", "| file | what it is |", "|---|---|"]
            lines += [f"| `{path.name}` | {first_line(path)} |" for path in files]
    return "\n".join(lines[1:]) + "\n"


def with_list(page: str, listing: str) -> str:
    """`page` with `listing` between its two markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n" + listing + "\n" + END + after


def main() -> None:
    """Rewrite or check the page."""
    page = PAGE.read_text(encoding="utf-8")
    new = with_list(page, file_list(ROOT / "src" / "tailkeep"))
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == page else f"{PAGE.name} has another file list. Run python docs/architecture.py")
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
