"""Token edits applied to a text at the characters of the edited tokens.

Rule: a character outside every applied edit is the original's. No text is ever decoded as a whole, since decoding
changes unedited text: lossy normalizers, lost spaces, split characters. Edits name characters of the original text, so
any subset of them can be applied.
"""

import ast
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tailkeep.rules.tokens import Reason, Span, TokenizedText, TokenTexts, locate_token


@dataclass(frozen=True)
class Edit:
    """Characters `start` to `end` - 1 of the original, which read `old`, become `new`.

    `position` is the token's; `new_id` is None where the token is deleted.
    """

    position: int
    start: int
    end: int
    old: str
    new: str
    old_id: int
    new_id: int | None


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """`text` with `edits`, which are in order and do not overlap; without edits, `text` itself."""
    parts: list[str] = []
    done = 0
    for edit in edits:
        assert edit.start >= done, f"the edit at token {edit.position} overlaps the one before it"
        parts += text[done : edit.start], edit.new
        done = edit.end
    return "".join([*parts, text[done:]]) if parts else text


# The Python guard: code keeps its syntax tree. Bisection finds the edits to revert.


_FENCED = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?:python3?|py)\b[^\n]*\n(?P<code>.*?)^[ \t]*(?P=fence)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)


Check = Callable[[str], bool]


def guard_python(text: str, edits: Sequence[Edit]) -> list[Edit]:
    """The edits, in order, with which all Python code in `text` keeps its syntax tree: comments and docstrings change.

    The code is the text if it parses as a whole, otherwise each block fenced as python that parses. Code that does not
    parse before is not guarded. In each code block the largest harmless runs of edits are kept, from left to right.
    """
    remaining = list(edits)
    for span in list(_code_spans(text)) if edits else ():
        start, end = span
        inside = [edit for edit in remaining if start < edit.end and edit.start < end]
        check = _keeps_tree_of(text[start:end])
        harmful = {*inside} - {*_harmless(text, span, [], inside, check)}
        remaining = [edit for edit in remaining if edit not in harmful]
    return remaining


def _keeps_tree_of(code: str) -> Check:
    """Whether edited code has the syntax tree of `code`; code that needs no dedent must not need one afterwards."""
    if tree := syntax_tree(code):
        return lambda edited: syntax_tree(edited) == tree
    dedented = syntax_tree(textwrap.dedent(code))
    return lambda edited: syntax_tree(textwrap.dedent(edited)) == dedented


def syntax_tree(code: str) -> str:
    """The syntax tree of `code` as this interpreter parses it, without the text of docstrings; "" if it cannot."""
    with warnings.catch_warnings():
        # Invalid escapes and the like are warnings about code that parses.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(code)
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
                    first = node.body[0]
                    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                        first.value.value = "" if isinstance(first.value.value, str) else first.value.value
            return ast.dump(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ""


def _parses(code: str) -> bool:
    return bool(syntax_tree(textwrap.dedent(code)))


def _code_spans(text: str) -> Iterator[Span]:
    if _parses(text):
        yield 0, len(text)
        return
    for block in _FENCED.finditer(text):
        if _parses(block["code"]):
            yield block.span("code")


def _harmless(text: str, span: Span, accepted: list[Edit], edits: list[Edit], check: Check) -> list[Edit]:
    """`accepted` and those of `edits` that bisection finds harmless."""
    if not edits or _passes(text, span, [*accepted, *edits], check):
        return [*accepted, *edits]
    if len(edits) == 1:
        return accepted
    middle = len(edits) // 2
    return _harmless(text, span, _harmless(text, span, accepted, edits[:middle], check), edits[middle:], check)


def _passes(text: str, span: Span, edits: Sequence[Edit], check: Check) -> bool:
    start, end = span
    if any(edit.start < start or edit.end > end for edit in edits):
        return False
    return check(apply_edits(text[:end], edits)[start:])


@dataclass(frozen=True)
class SpliceResult:
    """An edited text, its edits in order, and the refused positions with their reasons."""

    text: str
    applied: tuple[Edit, ...]
    refused: Mapping[int, Reason]

    @property
    def reasons(self) -> Counter[Reason]:
        """How many edits were refused for each reason."""
        return Counter(self.refused.values())


def splice(
    text: str,
    tokens: TokenizedText,
    changes: Mapping[int, int | None],
    token_texts: TokenTexts,
    *,
    protected: Sequence[Span] = (),
    guard: Literal["python"] | None = None,
) -> SpliceResult:
    """Replace or delete tokens of `text`.

    Args:
        changes: position -> the new id, None to delete the token.
        protected: sorted spans that do not overlap and never change, see `protected_spans`.
        guard: revert edits that change the syntax tree of Python code, see `guard_python`.
    """
    refused: dict[int, Reason] = {}
    edits: list[Edit] = []
    for position in sorted(changes):
        edit = _edit(text, tokens, position, changes[position], token_texts=token_texts, protected=protected)
        if isinstance(edit, Edit):
            edits.append(edit)
        else:
            refused[position] = edit
    if guard == "python":
        harmless = guard_python(text, edits)
        refused |= dict.fromkeys((edit.position for edit in {*edits} - {*harmless}), "guard")
        edits = harmless
    return SpliceResult(apply_edits(text, edits), tuple(edits), dict(sorted(refused.items())))


def _edit(
    text: str,
    tokens: TokenizedText,
    position: int,
    new_id: int | None,
    *,
    token_texts: TokenTexts,
    protected: Sequence[Span],
) -> Edit | Reason:
    span = locate_token(text, tokens, position, token_texts, protected)
    if isinstance(span, str):
        return span
    new = "" if new_id is None else token_texts[new_id]
    if new is None:
        return "candidate_fragment"
    if span.drop_space:
        new = new.removeprefix(" ")
    old = text[span.start : span.end]
    if new == old:
        return "same_text"
    return Edit(position, span.start, span.end, old, new, int(tokens.ids[position]), new_id)
