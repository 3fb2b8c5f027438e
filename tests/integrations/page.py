"""The Python of docs/integrations.md and of the page below it by section, and stand-ins for the frameworks."""

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from tests.integrations.tiny import THRESHOLD

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (DOCS / "integrations.md", DOCS / "integrations" / "frameworks.md")


def sections():
    """The Python blocks of the pages by the heading they stand under."""
    sections, heading = {}, ""
    pattern = re.compile(r"^## (.+)$", re.MULTILINE)
    for part in [part for page in PAGES for part in pattern.split(page.read_text(encoding="utf-8"))[1:]]:
        if heading:
            sections[heading] = re.findall(r"^```python\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)
            heading = ""
        else:
            heading = part
    return sections


def run(heading, names=None, *, threshold=THRESHOLD):
    """Run the blocks of a section among `names`, at a threshold that a tiny model reaches; return what they define."""
    code = "\n".join(sections()[heading])
    changed = re.sub(r"\b0\.99\b", str(threshold), code)
    assert changed != code
    space = {"__name__": "page", **(names or {})}
    exec(compile(changed, f"integrations, {heading}", "exec"), space)
    return space


def provide(monkeypatch, module, **names):
    """The installed `module`, or one of that name with `names`, which has the documented signatures."""
    package = module.partition(".")[0]
    if not getattr(sys.modules.get(package), "is_stand_in", False) and importlib.util.find_spec(package):
        return importlib.import_module(module)
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        stand_in = sys.modules.get(name) or ModuleType(name)
        stand_in.is_stand_in = True
        monkeypatch.setitem(sys.modules, name, stand_in)
    for name, value in names.items():
        setattr(sys.modules[module], name, value)
    return sys.modules[module]
