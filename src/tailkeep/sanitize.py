"""Text and numbers made safe to print and to keep: visible control characters, no credentials, no NaN in JSON.

Control and bidirectional characters become visible escapes, so that no text can move the cursor, reorder a line or
colour a terminal. Credentials never reach a file, a log, an error or a report: they are replaced before text leaves the
process. Rule: what is printed is what is there, but for credentials.
"""

import math
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any


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


# Three things give a credential away: its shape, the key beside it, and a secret variable of this process that holds
# it. Every pattern reads a text once: what a quantifier has taken it never gives back (`++`), or what follows ends it.


HIDDEN = "[redacted]"

_SHORTEST_SECRET = 8
_KEY_WORD = r"(?:api|access|private|secret|account|shared)[_-]?key"
_SECRET_WORD = rf"(?:token|password|passwd|passphrase|secret|{_KEY_WORD}|credentials?)"
# A tokenizer's special tokens are settings, not credentials.
_SPECIAL_TOKEN = r"(?:bos|eos|pad|unk|sep|cls|mask|start|end|stop|begin|separator|image|audio|video)[_-]token"  # noqa: S105
_SECRET_KEY = re.compile(rf"(?i)(?!(?:.*[._-])?{_SPECIAL_TOKEN}$)(?:.*[._-])?(?:{_SECRET_WORD}|pwd)")
# PWD is the working folder, so it is no secret as a variable.
_SECRET_VARIABLE = re.compile(rf"(?i){_SECRET_WORD}$")

_PEM = "(?:(?!PRIVATE)[A-Z0-9]+ )*+PRIVATE KEY-----"
_SECRET_TEXT = [
    # user:password@ in a URL, of a web address, a store or a database with a slash in the password too, unless what
    # stands before the slash is a port, and a lone token before the @ of a web address
    (re.compile(r"(?<=://)[^/\s:@'\"]*:[^/\s'\"]+(?=@)"), HIDDEN),
    (
        re.compile(
            r"(?i)\b((?:https?|s3[an]?|gs|ftps?|postgres(?:ql)?|mysql|redis|mongodb(?:\+srv)?|amqps?)://)"
            r"[^/\s:@'\"\[]*:(?!\d{1,5}/)[^\s'\"@]{1,128}+(?=@)"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)(?<=\bhttps://)[^/\s:@'\"]+(?=@)|(?<=\bhttp://)[^/\s:@'\"]+(?=@)"), HIDDEN),
    # private keys
    (re.compile(rf"(?s)-----BEGIN {_PEM}.*?(?:-----END {_PEM}|\Z)"), HIDDEN),
    # the published shapes of Hugging Face, OpenAI-style, GitHub, GitLab, Slack, AWS, Google, npm and NVIDIA keys, and
    # of JSON web tokens
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}+|sk-[A-Za-z0-9_-]{16,}+|gh[pousr]_[A-Za-z0-9]{20,}+"
            r"|github_pat_\w{20,}+|glpat-[\w-]{20,}+|xox[abpr]-[\w-]{10,}+|A[KS]IA[A-Z0-9]{16}"
            r"|AIza[\w-]{35}|ya29\.[\w.-]{20,}+|GOCSPX-[\w-]{20,}+|npm_[A-Za-z0-9]{30,}+|nvapi-[\w-]{20,}+"
            r"|eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?)"
        ),
        HIDDEN,
    ),
    (
        re.compile(
            r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|token|digest|negotiate)\s+)?)[^\s\"',]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer )[A-Za-z0-9._~+/=-]{8,}"), rf"\1{HIDDEN}"),
]
# key: value and key=value. A bare `token` counts only at the start of a line: parsers report an "unexpected token: x".
# A value in quotes ends at the next one that is not escaped; a password without quotes may have spaces.
_ASSIGNED = re.compile(
    r"(?im)(?P<before>(?:^[ \t{-]*+\\?[\"']?|(?<![\w-])(?!token\b))(?P<key>[\w-]++)\\?[\"']?[ \t]*+[:=][ \t]*+)"
    r"(?P<value>\"(?:[^\"\\\n]|\\[^\n])*+\"?|'(?:[^'\\\n]|\\[^\n])*+'?|\\[\"'](?:(?!\\[\"'])[^\n])*+(?:\\[\"'])?"
    r"|[^\s\"',;&}]++(?P<more>(?:[ \t]++[^\s\"',;&}:=]++)*+))"
)
# ?token=... &X-Amz-Signature=...
_PARAMETER = re.compile(r"(?P<before>[?&](?P<key>[\w-]++)=)(?P<value>[^&\s'\"]+)")
_SECRET_PARAMETER = re.compile(r"(?i)token|signature|secret|password|credential|api[_-]?key|^(?:sig|key|pwd)$")
_PHRASE = re.compile(r"(?i)passw|passphrase|pwd")


def redact(text: str) -> str:
    """`text` without credentials: known shapes, URL passwords, values beside a secret key or in a secret variable."""
    for value in _secret_values():
        text = text.replace(value, HIDDEN)
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return _ASSIGNED.sub(_hide_assigned, _PARAMETER.sub(_hide_parameter, text))


def excerpt(text: str, most: int = 600) -> str:
    """The first `most` characters of `text`, to be read, without credentials; a cut one ends with an ellipsis."""
    # A credential that is cut first is no longer known for one.
    text = redact(text)
    return text if len(text) <= most else text[:most].rstrip() + "…"


# Of an absolute path in YAML all but the last two parts, and always the name of a user.
_FOLDERS = re.compile(
    r"""(?:(?<=[:-] )|(?<=[:-] ['"]))/(?:(?:home|Users)/[^/\n]+(?=/))?[^\n]*?(?=(?:/[^/\n]+){1,2}$)"""
)


def without_folders(config: str) -> str:
    """The YAML text `config` with absolute paths shortened to their last two parts, for what may be published."""
    return "\n".join(map(_without_folders, config.split("\n")))


def _without_folders(line: str) -> str:
    # In a line that ends with a slash every start of a path would be followed to the end, and none would match.
    path = line.rstrip("/")
    return _FOLDERS.sub("…", path) + line[len(path) :]


def redact_tree(value: Any) -> Any:
    """`value` (mappings, sequences and scalars) with what secret keys hold hidden and every string redacted.

    Numbers beside a token stay: a metric may well be called `nll_per_token`.
    """
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_hidden(str(key), item) else redact_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def hidden_keys(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys, outermost first, of what `redact_tree` hides in `value`, which stands below the keys `above`."""
    if isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            inner = (*above, str(key))
            if _is_hidden(str(key), item):
                yield inner
            else:
                yield from hidden_keys(item, inner)
    elif isinstance(value, str) and redact(value) != value:
        yield above


def _secret_values() -> list[str]:
    values = {
        value for name, value in os.environ.items() if len(value) >= _SHORTEST_SECRET and _SECRET_VARIABLE.search(name)
    }
    # The longest first, so that a value inside another leaves nothing of it behind.
    return sorted(values, key=len, reverse=True)


def _hide_assigned(match: re.Match[str]) -> str:
    value, more = match["value"], match["more"] or ""
    quote = value[: len(value) - len(value.lstrip("\\\"'"))] if value[0] in "\\\"'" else ""
    content = value.removeprefix(quote)
    if not _SECRET_KEY.fullmatch(match["key"]) or content.startswith(("[", "{")) or content.strip("\\\"'") == "":
        return match[0]
    # After a word that is no password there may be a sentence.
    rest = "" if not more or _PHRASE.search(match["key"]) else more
    end = quote if quote and len(content) > len(quote) and content.endswith(quote) else ""
    return f"{match['before']}{quote}{HIDDEN}{end}{rest}"


def _hide_parameter(match: re.Match[str]) -> str:
    return match["before"] + HIDDEN if _SECRET_PARAMETER.search(match["key"]) else match[0]


def _is_hidden(key: str, value: Any) -> bool:
    """Whether `value` is hidden whole, as what the secret `key` holds."""
    if not _SECRET_KEY.fullmatch(key):
        return False
    if isinstance(value, int | float):
        return not isinstance(value, bool) and "token" not in key.lower()
    return isinstance(value, str | Mapping | list | tuple) and len(value) > 0


def without_nan(tree: Any) -> Any:
    """`tree` with None for NaN and infinity, which JSON lacks."""
    if isinstance(tree, Mapping):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
