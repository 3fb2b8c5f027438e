"""What the pages of all reports share: the Jinja environment, its filters, the style sheet, and the three key numbers.

Rule: autoescape is on, and every text from a corpus, a config or a name passes a filter of this file; only style
sheets and figures, which escape what they show, are marked as markup.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from tailkeep.report import formatting, svg
from tailkeep.report.phrases import Role
from tailkeep.report.svg import figure_style
from tailkeep.runs import redact
from tailkeep.sanitize import visible

# A name such as density-0.85 stays on one line of a heading.
_HYPHEN = re.compile(r"(?<=\w)-(?=\w)")
_PER_CENT = re.compile(r"(?<=\d) ?%(?!\w)")
_OPTION = re.compile(r"--[a-z][a-z-]*[a-z]")


def new_environment() -> Environment:
    """A Jinja environment with autoescape and the filters for untrusted text."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(read_template),
    )
    filters: dict[str, Callable[..., Any]] = {
        "safe_text": _safe,
        "one_line": lambda text: _safe(text, newline=" "),
        "unbroken": lambda text: _HYPHEN.sub("\N{NON-BREAKING HYPHEN}", _safe(text, newline=" ")),
        "prose": _prose,
        "drawn_inline": lambda figure: Markup(figure.inline),  # noqa: S704
        "count": formatting.count,
        "duration": _duration,
        "key": lambda role: Markup(svg.key(role)),  # noqa: S704
    }
    environment.filters |= filters
    style = Markup(figure_style() + read_template("page.css"))  # noqa: S704
    environment.globals |= {"formatting": formatting, "style": style}
    return environment


def render_template(name: str, **values: Any) -> str:
    """The page of the template `name`."""
    html: str = new_environment().from_string(read_template(name)).render(**values)
    return html


def read_template(name: str) -> str:
    """The text of a template or style sheet of this package."""
    return resources.files("tailkeep.report").joinpath(name).read_text(encoding="utf-8")


def _safe(text: object, newline: str = "\n") -> str:
    return visible(redact(str(text)), newline=newline)


def _prose(sentence: object) -> Markup:
    """A sentence of ours: no line ends between a number, its % and the word CI, or within an option."""
    spaced = _PER_CENT.sub("\N{NO-BREAK SPACE}%", _safe(sentence, newline=" ")).replace("% CI", "%\N{NO-BREAK SPACE}CI")
    return Markup(_OPTION.sub(r"<code>\g<0></code>", str(escape(spaced))))  # noqa: S704


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class KeyNumber:
    """One of the three numbers: the number itself, its unit, what it is, and how sure it is."""

    role: Role
    number: str
    unit: str
    words: str
    certainty: str
