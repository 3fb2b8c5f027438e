"""Text from a corpus or a file, made safe to print.

Control and bidirectional characters are shown as visible escapes, so that no text can move the cursor,
reorder a line or colour a terminal. One rule: what is printed is what is there.
"""

import unicodedata


def visible(text: str, *, newline: str = "\n") -> str:
    """`text` with each control, format, surrogate, private and unassigned character written as `\\x1b` or `\\u202e`.

    Line breaks become `newline`: pass `"⏎"` to keep a text on one line. Everything else stays, the backslash too.
    """
    if text.isprintable():
        return text
    return "".join(newline if character == "\n" else _shown(character) for character in text)


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if not category.startswith("C") and category not in {"Zl", "Zp"}:
        return character
    if character == "\t":
        return "\\t"
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
