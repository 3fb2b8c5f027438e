"""The report's files: report.html, figures/, tables/.

Rule: all of them can be rebuilt from finished cells at any time, and the same cells give the same bytes.
"""

from collections.abc import Mapping
from pathlib import Path

from tailkeep.report.figures import draw
from tailkeep.report.page import page
from tailkeep.report.reading import read
from tailkeep.report.summary import summarise_reading
from tailkeep.report.tables import tables
from tailkeep.runs import Storage


def write(path: Path | str, *, storage: Storage | None = None) -> Path:
    """Write (or write anew) the report of the run at `path`, finished or not, and return the page's path.

    Raises:
        InputError: there is no run at `path`, or one of its files cannot be read.
        StorageError: the file system refused a write.
    """
    reading = read(path)
    folder = reading.run.path
    storage = storage or reading.run.storage
    summary = summarise_reading(reading)
    figures = draw(reading)
    rendered = [figure for group in figures for figure in group.all]
    images = {f"{figure.drawing.name}.svg": figure.file.encode() for figure in rendered}
    images |= {f"{figure.drawing.name}.png": figure.png for figure in rendered}
    numbers = {name: text.encode() for name, text in tables(reading, summary).items()}
    _replace(storage, folder / "figures", images)
    _replace(storage, folder / "tables", numbers)
    storage.write_text(folder / "report.html", page(reading, summary, figures))
    return folder / "report.html"


def _replace(storage: Storage, folder: Path, files: Mapping[str, bytes]) -> None:
    def fill(into: Path) -> None:
        for name, content in files.items():
            (into / name).write_bytes(content)

    if folder.exists():
        storage.remove_folder(folder)
    storage.write_folder(folder, fill)
