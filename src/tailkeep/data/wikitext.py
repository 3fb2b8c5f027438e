"""Plain English in the token form of WikiText: `real-time games, 1,000 of Sega's.` is `real @-@ time games , 1 @,@ 000
of Sega 's .` there.

Rule: only white space and the `@` marks are added; text in the form already stays as it is.
"""

import re
import unicodedata

ABBREVIATIONS = frozenset(
    [
        "Adm",
        "Bros",
        "Brig",
        "Capt",
        "Cmdr",
        "Co",
        "Col",
        "Comdr",
        "Corp",
        "Dr",
        "Drs",
        "Esq",
        "Gen",
        "Gov",
        "Hon",
        "Inc",
        "Jr",
        "Lt",
        "Ltd",
        "Maj",
        "Messrs",
        "Mr",
        "Mrs",
        "Ms",
        "Mt",
        "No",
        "Prof",
        "Rep",
        "Rev",
        "Sen",
        "Sens",
        "Sgt",
        "Sr",
        "St",
        "v",
        "vs",
    ]
)
"""Words that keep their full stop; single capitals and words with a full stop inside (U.S.) do too."""
_MARKED = re.compile(r"(?<=\d)([,.])(?=\d)")
_HYPHEN = re.compile(r"(?<=[^\W_])-(?=[^\W_])")
_SINGLE = re.compile(r"\.\.\.|--|[][(){}<>,;:!?\"“”…–—/&%$£€#*=+]")
_MARKS = re.compile(r"@-@|@,@|@\.@|<unk>")
_INNER = re.compile(r"(?<=[^\W\d_])['’](?=[^\W\d_])")
_CLITIC = re.compile(r"['’](?:s|t|re|ve|ll|d|m|S|T)")
_JOINED = "\ue000"  # stands for an apostrophe that belongs to what follows: O 'Connell, Sega 's


def wikitext_form(text: str) -> str:
    """`text` as WikiText writes it: punctuation apart, ` @-@ ` inside compounds, ` @,@ ` and ` @.@ ` inside numbers.

    The rules are those of the Moses tokenizer for English (Koehn et al. 2007) with marked hyphens, written anew; where
    that one consults the next line or longer lists of abbreviations the two can differ.
    """
    return " ".join(piece for word in unicodedata.normalize("NFC", text).split() for piece in _pieces(word))


def _pieces(word: str) -> list[str]:
    if _MARKS.fullmatch(word):
        return [word]
    word = _MARKED.sub(lambda mark: f" @{mark[1]}@ ", word)
    word = _HYPHEN.sub(" @-@ ", word)
    pieces = [piece for part in word.split() for piece in ([part] if _MARKS.fullmatch(part) else _apart(part))]
    return _final_stop(pieces)


def _apart(part: str) -> list[str]:
    spaced = _SINGLE.sub(lambda mark: f" {mark[0]} ", part)
    spaced = _INNER.sub(f" {_JOINED}", spaced)
    found = []
    for piece in spaced.split():
        if piece[0] == _JOINED:
            found.append("'" + piece[1:])
        elif _CLITIC.fullmatch(piece):
            found.append(piece)
        else:
            found += re.findall(r"^['’‘]|['’]$|(?:(?!['’]$).)+", piece)
    return found


def _final_stop(pieces: list[str]) -> list[str]:
    """The full stop at the end of a word apart, also in front of closing quotes and brackets."""
    at = len(pieces) - 1
    while at > 0 and pieces[at] in {'"', "'", ")", "]", "”"}:
        at -= 1
    stem = pieces[at][:-1]
    if pieces[at] == "..." or not pieces[at].endswith(".") or not stem:
        return pieces
    if "." in stem or stem in ABBREVIATIONS or (len(stem) == 1 and stem.isupper()):
        return pieces
    return [*pieces[:at], stem, ".", *pieces[at + 1 :]]
