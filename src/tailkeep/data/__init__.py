"""Documents, questions and worlds with known truth."""

from tailkeep.data.choices import Choice, read_choices, read_minimal_pairs
from tailkeep.data.documents import Separator, read_documents, read_text
from tailkeep.data.questions import Question, read_questions, write_questions
from tailkeep.data.world import Fact, Reading, Statement, World, WorldConfig

__all__ = [
    "Choice",
    "Fact",
    "Question",
    "Reading",
    "Separator",
    "Statement",
    "World",
    "WorldConfig",
    "read_choices",
    "read_documents",
    "read_minimal_pairs",
    "read_questions",
    "read_text",
    "write_questions",
]
