"""Where a difference from the reference can come from: other human text, synthetic text, both, or neither.

Rule: a statistic that differs says that two corpora differ, never why. Only a further reference, compared with the
first in the same way, can tell genre from machine, and only as far as that reference goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tailkeep.audit.comparison import Comparison, StatisticTest

SECOND, SYNTHETIC = "second", "synthetic"

_UNTESTED = (
    "Human text of another topic, genre or age gives such differences too: a second human reference "
    "(--second-reference) and a synthetic one (--synthetic) tell more."
)


@dataclass(frozen=True)
class Origins:
    """The comparisons of further references with the first: `second`, human text of another kind, and `synthetic`."""

    comparisons: Mapping[str, Comparison] = field(default_factory=dict)

    def shared_by(self, side: str, tests: Sequence[StatisticTest]) -> list[str]:
        """The names of the `tests` in which the reference `side` differs significantly in the same direction."""
        others = {test.name: test for test in self.comparisons[side].all_tests}
        return [
            test.name
            for test in tests
            if (other := others.get(test.name)) and other.flagged and other.difference * test.difference > 0
        ]

    def caveat(self, tests: Sequence[StatisticTest]) -> str:
        """What the further references say of the significant `tests`, in one or two sentences."""
        if not self.comparisons:
            return _UNTESTED
        shared = {side: self.shared_by(side, tests) for side in self.comparisons}
        total = len(tests)
        sentences = []
        if SECOND in shared:
            names = shared[SECOND]
            sentences.append(
                f"The second human reference differs in the same direction in {_count(names, total)}, which genre "
                "alone can explain."
                if names
                else "The second human reference does not differ in this direction, so its genre explains none of it."
            )
        if SYNTHETIC in shared:
            names = shared[SYNTHETIC]
            sentences.append(
                f"The synthetic reference differs in the same direction in {_count(names, total)}."
                if names
                else "The synthetic reference does not differ in this direction."
            )
        if SECOND not in shared:
            sentences.append("Another genre can too: --second-reference tests one.")
        return " ".join(sentences)

    def figures(self, test: StatisticTest) -> dict[str, bool]:
        """By reference, whether it differs from the first significantly and in the same direction as `test`."""
        return {f"{side}_alike": bool(self.shared_by(side, [test])) for side in self.comparisons}


def _count(names: Sequence[str], total: int) -> str:
    return f"{len(names)} of {total} ({', '.join(names)})" if len(names) < total else f"all {total}"
