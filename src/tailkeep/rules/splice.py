"""Token edits applied to a text at the characters of the edited tokens, and the spans that are never edited.

Rules: a character outside every applied edit is the original's. No text is ever decoded as a whole, since decoding
changes unedited text: lossy normalizers, lost spaces, split characters. Edits name characters of the original text, so
any subset of them can be applied. When in doubt a span is protected; every pattern runs in time linear in the text.
"""

import ast
import re
import textwrap
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tailkeep.rules.config import Protection
from tailkeep.rules.tokens import Reason, Span, TokenizedText, TokenTexts, locate_token, merge_spans

# Digits with the signs and separators between them: 1,234.5e-6, 10:30, 2024-01-31, -3 %.
_NUMBERS = re.compile(r"0[xXbBoO][0-9a-fA-F]+|[+-]?\.?\d+(?:[.,:/_'\u2019-]\d+)*(?:[eE][+-]?\d+)?(?:[ \u00a0]?%)?")
_URLS = re.compile(
    r"\b(?:[a-zA-Z][a-zA-Z0-9+.-]{0,19}://|www\.|mailto:)[^\s<>\"]+|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+"
)
_WORDS = re.compile(r"\w+(?:['\u2019-]\w+)*")
_SENTENCE_END = re.compile(r"(?:[.!?:;][\"'\u201d\u2019)\]]*\s|\n|[=*#>|\u2022])[\s\"'\u201c\u2018(\[=*#>|\u2022-]*$")
_LOOK_BACK = 12
_BEFORE_SENTENCES = " \t\n\"'\u201c\u2018([=*#>|\u2022-"
_NO_NAMES = frozenset({"I", "I'm", "I'll", "I've", "I'd", "I\u2019m", "I\u2019ll", "I\u2019ve", "I\u2019d", "A", "O"})
# Words that stand inside names: Bank of England, Ludwig van Beethoven.
_INSIDE_NAMES = frozenset(
    {"of", "the", "and", "de", "del", "della", "der", "den", "di", "da", "du", "la", "le", "van", "von", "bin", "ibn"}
)
_LONGEST_JOIN = 3
_NUMBER_WORDS = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty(?:-\w+)?|hundreds?|thousands?|millions?|billions?|dozens?"
    r"|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|twice|half|quarters?)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})", re.MULTILINE)
_PYTHON_BLOCK = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?:python3?|py)\b[^\n]*\n(?P<code>.*?)^[ \t]*(?P=fence)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_CHAT_TOKENS = re.compile(
    r"(?:<\|(?:im_start|start_header_id|start|role)\|>|<start_of_turn>|<\|start_of_role\|>)[ \t]*\w*"
    r"|<\|[^|<>\s]{1,60}\|>|<\uff5c[^\uff5c<>\n]{1,60}\uff5c>"
    r"|</?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|tool_call|tool_response|think)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"
    r"|^#{2,3}[ \t]*(?:Instruction|Input|Response|System|User|Assistant|Human)[ \t]*:"
    r"|^(?:User|Assistant|Human|System|USER|ASSISTANT|HUMAN|SYSTEM):",
    re.MULTILINE,
)

_Check = Callable[[str], bool]

# Spans that are never edited.


def protected_spans(text: str, protection: Protection, *, literals: Sequence[str] = ()) -> list[Span]:
    """The protected characters of `text` as sorted spans that do not overlap.

    `literals` are more strings that are chat tokens, such as the tokenizer's added tokens.
    """
    spans: list[Span] = []
    if protection.numbers:
        spans += _matches(_NUMBERS, text)
    if protection.entities:
        entities = [*_matches(_NUMBERS, text), *_matches(_NUMBER_WORDS, text), *_names(text)]
        # A token of white space before one may become a word that belongs to it: " " -> " December" before 31.
        spans += [(_before_space(text, start), end) for start, end in entities]
    if protection.urls:
        spans += _matches(_URLS, text)
    if protection.code_fences:
        spans += _code_fences(text)
    if protection.chat_tokens:
        spans += _matches(_CHAT_TOKENS, text)
        if named := [re.escape(literal) for literal in sorted(literals, key=len, reverse=True) if literal.strip()]:
            spans += _matches(re.compile("|".join(named)), text)
    if protection.prompt_until is not None:
        spans.append((0, _prompt_end(text, protection.prompt_until)))
    return merge_spans(spans)


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    return (match.span() for match in pattern.finditer(text))


def _names(text: str) -> Iterator[Span]:
    """Capitalised words that are no mere beginning of a sentence, and the words that join two of them.

    The first word of a sentence is a name if it has a second capital, stands before another capitalised word, or stands
    capitalised inside a sentence elsewhere in the text.
    """
    words = list(_WORDS.finditer(text))
    opens = [_opens_sentence(text, match.start()) for match in words]
    inside = {match[0] for match, first in zip(words, opens, strict=True) if not first and _is_capitalised(match[0])}
    last_name: int | None = None
    for number, match in enumerate(words):
        if not _is_capitalised(match[0]):
            continue
        is_name = not opens[number] or match[0] in inside or sum(map(str.isupper, match[0])) > 1
        following = words[number + 1] if number + 1 < len(words) else None
        if not is_name and (following is None or not _joins(text, match, following)):
            continue
        start = match.start()
        if last_name is not None and number - last_name <= _LONGEST_JOIN + 1 and not opens[number]:
            between = [word[0] for word in words[last_name + 1 : number]]
            if between and all(word in _INSIDE_NAMES for word in between):
                start = words[last_name].end()
        yield start, match.end()
        last_name = number


def _before_space(text: str, start: int) -> int:
    return start - 1 if start and text[start - 1].isspace() else start


def _is_capitalised(word: str) -> bool:
    return word not in _NO_NAMES and any(map(str.isupper, word))


def _joins(text: str, first: re.Match[str], second: re.Match[str]) -> bool:
    """Whether two words are one name: the second is capitalised too, and a space stands between them."""
    return _is_capitalised(second[0]) and text[first.end() : second.start()] in {" ", "\u00a0", ". "}


def _opens_sentence(text: str, start: int) -> bool:
    before = text[max(0, start - _LOOK_BACK) : start]
    return (start <= _LOOK_BACK and not before.strip(_BEFORE_SENTENCES)) or _SENTENCE_END.search(before) is not None


def _code_fences(text: str) -> Iterator[Span]:
    """Blocks from an opening fence to the end of its closing line; an unclosed block runs to the end of the text."""
    opening: tuple[int, str] | None = None
    for match in _FENCE.finditer(text):
        fence = match[1]
        if opening is None:
            opening = match.start(), fence
        elif fence[0] == opening[1][0] and len(fence) >= len(opening[1]):
            yield opening[0], _line_end(text, match.end())
            opening = None
    if opening is not None:
        yield opening[0], len(text)


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _prompt_end(text: str, until: str) -> int:
    start = text.find(until)
    return len(text) if start < 0 else start + len(until)


# Edits and the text with them.


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


def guard_python(text: str, edits: Sequence[Edit]) -> list[Edit]:
    """The edits, in order, with which all Python code in `text` keeps its syntax tree: comments and docstrings change.

    The code is the text if it parses as a whole, otherwise each block fenced as python that parses. Code that does not
    parse before is not guarded. In each code block the largest harmless runs of edits are kept, from left to right.
    """
    remaining = list(edits)
    for span in list(_python_spans(text)) if edits else ():
        start, end = span
        inside = [edit for edit in remaining if start < edit.end and edit.start < end]
        check = _keeps_tree_of(text[start:end])
        harmful = {*inside} - {*_harmless(text, span, [], inside, check)}
        remaining = [edit for edit in remaining if edit not in harmful]
    return remaining


def _keeps_tree_of(code: str) -> _Check:
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


def _python_spans(text: str) -> Iterator[Span]:
    if _parses(text):
        yield 0, len(text)
        return
    for block in _PYTHON_BLOCK.finditer(text):
        if _parses(block["code"]):
            yield block.span("code")


def _harmless(text: str, span: Span, accepted: list[Edit], edits: list[Edit], check: _Check) -> list[Edit]:
    """`accepted` and those of `edits` that bisection finds harmless."""
    if not edits or _passes(text, span, [*accepted, *edits], check):
        return [*accepted, *edits]
    if len(edits) == 1:
        return accepted
    middle = len(edits) // 2
    return _harmless(text, span, _harmless(text, span, accepted, edits[:middle], check), edits[middle:], check)


def _passes(text: str, span: Span, edits: Sequence[Edit], check: _Check) -> bool:
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


_JOINTS = ".,:/'-"
_CONTINUES, _LEADS_ON = re.compile(rf"[{_JOINTS}]?\w"), re.compile(rf"\w[{_JOINTS}]?\Z")
_JOINS_LEFT, _JOINS_RIGHT = re.compile(rf"[{_JOINTS}]*(?:\w|\Z)"), re.compile(rf"(?:\A|\w)[{_JOINTS}]*\Z")


def _joins_protected(text: str, start: int, end: int, new: str, protected: Sequence[Span]) -> bool:
    """Whether `new` in place of text[start:end] could make another word or number of a protected one that it touches.

    A comma or a hyphen joins as well as it parts, and so does nothing: the token beyond may change too.
    """
    left = start - 1 if start and text[start - 1] in _JOINTS else start
    right = end + 1 if end < len(text) and text[end] in _JOINTS else end
    before, after = bisect_left(protected, (start, start)), bisect_left(protected, (end, end))
    follows = before > 0 and protected[before - 1][1] in (left, start) and not _CONTINUES.match(text, start)
    is_next = after < len(protected) and protected[after][0] in (end, right)
    leads = is_next and not _LEADS_ON.search(text[max(0, end - 2) : end])
    return (follows and bool(_JOINS_LEFT.match(new))) or (leads and bool(_JOINS_RIGHT.search(new)))


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
    if _joins_protected(text, span.start, span.end, new, protected):
        return "protected"
    return Edit(position, span.start, span.end, old, new, int(tokens.ids[position]), new_id)
