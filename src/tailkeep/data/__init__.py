"""Documents, questions, and worlds with known truth."""

from tailkeep.data.documents import Separator, TextRecord, read_documents, read_prompted, read_records, read_values
from tailkeep.data.kr_questions import (
    ABBREVIATIONS,
    FORMS,
    Form,
    Question,
    articles_of,
    format_question,
    parse_question,
    read_items,
    read_questions,
    wikitext_form,
    write_questions,
)
from tailkeep.data.multiple_choice import MultipleChoice, read_answered, read_choices, read_minimal_pairs, write_tasks
from tailkeep.data.world import Fact, ParsedText, Statement, World, WorldConfig

__all__ = [
    "ABBREVIATIONS",
    "FORMS",
    "Fact",
    "Form",
    "MultipleChoice",
    "ParsedText",
    "Question",
    "Separator",
    "Statement",
    "TextRecord",
    "World",
    "WorldConfig",
    "articles_of",
    "format_question",
    "parse_question",
    "read_answered",
    "read_choices",
    "read_documents",
    "read_items",
    "read_minimal_pairs",
    "read_prompted",
    "read_questions",
    "read_records",
    "read_values",
    "wikitext_form",
    "write_questions",
    "write_tasks",
]
