"""The three numbers of a page."""

from dataclasses import dataclass

from tailkeep.report.roles import Role


@dataclass(frozen=True)
class KeyNumber:
    """One of the three numbers: the number itself, its unit, what it is, and how sure it is."""

    role: Role
    number: str
    unit: str
    words: str
    certainty: str
