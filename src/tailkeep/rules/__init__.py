"""Rules of editing: which tokens, what in their place, and how that gets into the text. Nothing here asks a model.

`draw` is in `rules.drawing`: it alone needs torch, and choices are read without.
"""

from tailkeep.rules.config import Band, Low, Protection, Random, Rule, Sampler, ToEdit, check_has_effect
from tailkeep.rules.policy import Action, judge
from tailkeep.rules.protected_spans import protected_spans
from tailkeep.rules.randomness import uniforms
from tailkeep.rules.splice import Edit, Spliced, apply_edits, guard_python, splice
from tailkeep.rules.tokens import (
    Detokenizer,
    Place,
    Reason,
    Span,
    TextTokenizer,
    Tokens,
    TokenTexts,
    find_place,
    merge_spans,
    read_token_texts,
)

__all__ = [
    "Action",
    "Band",
    "Detokenizer",
    "Edit",
    "Low",
    "Place",
    "Protection",
    "Random",
    "Reason",
    "Rule",
    "Sampler",
    "Span",
    "Spliced",
    "TextTokenizer",
    "ToEdit",
    "TokenTexts",
    "Tokens",
    "apply_edits",
    "check_has_effect",
    "find_place",
    "guard_python",
    "judge",
    "merge_spans",
    "protected_spans",
    "read_token_texts",
    "splice",
    "uniforms",
]
