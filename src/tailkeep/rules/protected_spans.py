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


def protected_spans(
    text: str, protection: Protection, *, literals: Sequence[str] = (), prompts: Sequence[Span] = ()
) -> list[Span]:
    """The protected characters of `text` as sorted spans that do not overlap.

    Args:
        literals: more strings that are chat tokens, such as the tokenizer's added tokens.
        prompts: spans of prompts, protected whatever the options.
    """
    spans: list[Span] = list(prompts)
    if protection.numbers:
        spans += _matches(_NUMBERS, text)
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
