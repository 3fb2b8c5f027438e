"""Rules of editing: which tokens, what in their place, and how that gets into the text. Nothing here asks a model.

`draw` is in `rules.drawing`: it alone needs torch, and choices are read without.
"""

from tailkeep.rules.guarding import guard_python
from tailkeep.rules.judging import Action, judge
from tailkeep.rules.placing import Place, Reason, Span, Tokens, find_place, merge_spans
from tailkeep.rules.protection import protected_spans
from tailkeep.rules.randomness import uniforms
from tailkeep.rules.replacing import Edit, apply_edits
from tailkeep.rules.settings import Band, Low, Protection, Random, Rule, Sampler, ToEdit, refuse_idle
from tailkeep.rules.spelling import Speller
from tailkeep.rules.splicing import Spliced, splice
from tailkeep.rules.surfaces import Surfaces, read_surfaces
from tailkeep.rules.tokenizing import TextTokenizer

__all__ = [
    "Action",
    "Band",
    "Edit",
    "Low",
    "Place",
    "Protection",
    "Random",
    "Reason",
    "Rule",
    "Sampler",
    "Span",
    "Speller",
    "Spliced",
    "Surfaces",
    "TextTokenizer",
    "ToEdit",
    "Tokens",
    "apply_edits",
    "find_place",
    "guard_python",
    "judge",
    "merge_spans",
    "protected_spans",
    "read_surfaces",
    "refuse_idle",
    "splice",
    "uniforms",
]
