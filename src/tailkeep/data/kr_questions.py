"""Questions of the knowledge-retention test: a context, a true sentence and its false twin (arXiv 2509.08972).

Rule: a sentence starts without white space, since scoring joins context and sentence with one space.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tailkeep.data.documents import read_values, text_of
from tailkeep.errors import InputError
from tailkeep.runs import Storage

ABBREVIATIONS = frozenset(
    [
        *("Adm", "Bros", "Brig", "Capt", "Cmdr", "Co", "Col", "Comdr", "Corp", "Dr", "Drs", "Esq", "Gen"),
        *("Gov", "Hon", "Inc", "Jr", "Lt", "Ltd", "Maj", "Messrs", "Mr", "Mrs", "Ms", "Mt", "No", "Prof"),
        *("Rep", "Rev", "Sen", "Sens", "Sgt", "Sr", "St", "v", "vs"),
    ]
)
"""Words that keep their full stop; single capitals and words with a full stop inside (U.S.) do too."""
_MARKED = re.compile(r"(?<=\d)([,.])(?=\d)")
_HYPHEN = re.compile(r"(?<=[^\W_])-(?=[^\W_])")
_SINGLE = re.compile(r"\.\.\.|--|[][(){}<>,;:!?\"“”…–—/&%$£€#*=+]")
_SEPARATORS = re.compile(r"@-@|@,@|@\.@|<unk>")
_INNER = re.compile(r"(?<=[^\W\d_])['’](?=[^\W\d_])")
_CLITIC = re.compile(r"['’](?:s|t|re|ve|ll|d|m|S|T)")
_JOINED = "\ue000"  # replaces an apostrophe that belongs to the text after it: O 'Connell, Sega 's


def wikitext_form(text: str) -> str:
    """`text` as WikiText tokenizes it: punctuation apart, ` @-@ ` inside compounds, ` @,@ ` and ` @.@ ` inside numbers.

    `real-time games, 1,000 of Sega's.` becomes `real @-@ time games , 1 @,@ 000 of Sega 's .`. Only white space and `@`
    are added, and text in this form stays the same. The rules are those of the Moses tokenizer for English (Koehn et
    al. 2007) with marked hyphens, implemented independently; where Moses consults the next line or longer lists of
    abbreviations the two can differ.
    """
    return " ".join(token for word in unicodedata.normalize("NFC", text).split() for token in _tokenize(word))


def _tokenize(word: str) -> list[str]:
    if _SEPARATORS.fullmatch(word):
        return [word]
    word = _MARKED.sub(lambda match: f" @{match[1]}@ ", word)
    word = _HYPHEN.sub(" @-@ ", word)
    parts = [[part] if _SEPARATORS.fullmatch(part) else _split_punctuation(part) for part in word.split()]
    return _split_full_stop([token for tokens in parts for token in tokens])


def _split_punctuation(part: str) -> list[str]:
    spaced = _SINGLE.sub(lambda match: f" {match[0]} ", part)
    spaced = _INNER.sub(f" {_JOINED}", spaced)
    tokens = []
    for token in spaced.split():
        if token[0] == _JOINED:
            tokens.append("'" + token[1:])
        elif _CLITIC.fullmatch(token):
            tokens.append(token)
        else:
            tokens += re.findall(r"^['’‘]|['’]$|(?:(?!['’]$).)+", token)
    return tokens


def _split_full_stop(tokens: list[str]) -> list[str]:
    """Split off the full stop at the end of a word, also before closing quotes and brackets."""
    at = len(tokens) - 1
    while at > 0 and tokens[at] in {'"', "'", ")", "]", "”"}:
        at -= 1
    stem = tokens[at][:-1]
    if tokens[at] == "..." or not tokens[at].endswith(".") or not stem:
        return tokens
    if "." in stem or stem in ABBREVIATIONS or (len(stem) == 1 and stem.isupper()):
        return tokens
    return [*tokens[:at], stem, ".", *tokens[at + 1 :]]


_TEXTS = ("context", "sentence_true", "sentence_false")

Form = Literal["plain", "wikitext"]
FORMS: Mapping[Form, Callable[[str], str]] = {"plain": str, "wikitext": wikitext_form}
"""How the texts of a question are formatted before scoring: unchanged, or tokenized like WikiText."""


@dataclass(frozen=True)
class Question:
    """Which of two sentences follows `context`? `location` is the source of the fact.

    In the published files `location` is the 0-based line of the article's title; in an embedded world it is the
    index of the fact.
    """

    context: str
    sentence_true: str
    sentence_false: str
    location: int | None = None


def articles_of(questions: Sequence[Question]) -> list[int] | None:
    """What each of `questions` is about, by its location; None where one has no location."""
    locations = [question.location for question in questions if question.location is not None]
    return locations if len(locations) == len(questions) else None


def format_question(question: Question, form: Form) -> Question:
    """`question` with its texts in `form`."""
    context, true, false = (FORMS[form](getattr(question, key)) for key in _TEXTS)
    return replace(question, context=context, sentence_true=true, sentence_false=false)


def read_questions(path: Path) -> list[Question]:
    """The questions in the file at `path`: a JSON list of objects, one object per line, or any format with fields.

    Each object has `context`, `sentence_true`, `sentence_false` and, if known, `location`. Other keys are ignored.
    White space around the texts is stripped.

    Raises:
        InputError: the file cannot be read, holds no question, or an item is not of this form; the message names it.
    """
    return [parse_question(item, where) for where, item in read_items(path)]


def read_items(path: Path) -> list[tuple[str, Any]]:
    """The raw items of the question file at `path`, each with its location for error messages.

    Raises:
        InputError: the file cannot be read, is not JSON or holds no item.
    """
    items = list(read_values(path))
    if not items:
        raise InputError(f"{path} holds no question. Give a file with at least one.")
    return items


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write `questions` to `path` in the format of `read_questions`.

    Raises:
        StorageError: the file system refused; nothing at `path` changed.
    """
    items = [{key: value for key, value in asdict(question).items() if value is not None} for question in questions]
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    else:
        text = json.dumps(items, ensure_ascii=False, indent=1) + "\n"
    Storage().write_text(path, text)


def parse_question(item: Any, where: str) -> Question:
    """`item` as a question, see `read_questions`; `where` is its location for error messages.

    Raises:
        InputError: it is not of that form.
    """
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: expected an object, got {type(item).__name__}. Write {{'context': ..., ...}}.")
    context, true, false = (_text(item, key, where) for key in _TEXTS)
    if true == false:
        raise InputError(f"{where}: both sentences are {true!r}. Give one that is true and one that is false.")
    location = item.get("location")
    if location is not None and (isinstance(location, bool) or not isinstance(location, int)):
        raise InputError(f"{where}: 'location' is {location!r}. Give a whole number, or omit the key.")
    return Question(context, true, false, location)


def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    text = text_of(item, key, where)
    if not text:
        raise InputError(f"{where}: {key!r} is empty. Give a sentence.")
    return text
