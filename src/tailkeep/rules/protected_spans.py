"""Spans of a text that are never edited, detected by regular expressions.

Rule: when in doubt a span is protected; every pattern runs in time linear in the text.
"""

import re
from collections.abc import Iterator, Sequence

from tailkeep.rules.config import Protection
from tailkeep.rules.tokens import Span, merge_spans

# Digits with the signs and separators between them: 1,234.5e-6, 10:30, 2024-01-31, -3 %.
_NUMBERS = re.compile(r"0[xXbBoO][0-9a-fA-F]+|[+-]?\.?\d+(?:[.,:/_'\u2019-]\d+)*(?:[eE][+-]?\d+)?(?:[ \u00a0]?%)?")
_URLS = re.compile(
    r"\b(?:[a-zA-Z][a-zA-Z0-9+.-]{0,19}://|www\.|mailto:)[^\s<>\"]+|[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+"
)
_WORDS = re.compile(r"\w+(?:['\u2019-]\w+)*")
_SENTENCE_END = re.compile(r"(?:[.!?:;][\"'\u201d\u2019)\]]*\s|\n|[=*#>|\u2022])[\s\"'\u201c\u2018(\[=*#>|\u2022-]*$")
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
_CHAT_TOKENS = re.compile(
    r"(?:<\|(?:im_start|start_header_id|start|role)\|>|<start_of_turn>|<\|start_of_role\|>)[ \t]*\w*"
    r"|<\|[^|<>\s]{1,60}\|>|<\uff5c[^\uff5c<>\n]{1,60}\uff5c>"
    r"|</?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|tool_call|tool_response|think)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"
    r"|^#{2,3}[ \t]*(?:Instruction|Input|Response|System|User|Assistant|Human)[ \t]*:"
    r"|^(?:User|Assistant|Human|System|USER|ASSISTANT|HUMAN|SYSTEM):",
    re.MULTILINE,
)


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


_LOOK_BACK = 12
_BEFORE_SENTENCES = " \t\n\"'\u201c\u2018([=*#>|\u2022-"


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
