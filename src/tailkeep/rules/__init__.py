"""Edit rules: which tokens change, what replaces them, and how that enters the text. Nothing here runs a model.

`sample_tokens` is in `rules.sampler` and not exported: it needs torch, and a config is read without torch.
"""

from tailkeep.rules.config import (
    Band,
    Low,
    Protection,
    Random,
    Rule,
    Sampler,
    ToEdit,
    check_has_effect,
    default_to_toedit,
)
from tailkeep.rules.policy import Action, apply_rule, position_uniforms
from tailkeep.rules.splice import Edit, SpliceResult, apply_edits, guard_python, protected_spans, splice
from tailkeep.rules.tokens import (
    Detokenizer,
    Reason,
    Span,
    TextTokenizer,
    TokenizedText,
    TokenSpan,
    TokenTexts,
    locate_token,
    merge_spans,
    read_token_texts,
)

__all__ = [
    "Action",
    "Band",
    "Detokenizer",
    "Edit",
    "Low",
    "Protection",
    "Random",
    "Reason",
    "Rule",
    "Sampler",
    "Span",
    "SpliceResult",
    "TextTokenizer",
    "ToEdit",
    "TokenSpan",
    "TokenTexts",
    "TokenizedText",
    "apply_edits",
    "apply_rule",
    "check_has_effect",
    "default_to_toedit",
    "guard_python",
    "locate_token",
    "merge_spans",
    "position_uniforms",
    "protected_spans",
    "read_token_texts",
    "splice",
]
