"""The leaderboard: what each remedy keeps, computed from the packs in docs/results/leaderboard.

    python docs/leaderboard.py            writes the tables of docs/leaderboard.md
    python docs/leaderboard.py --check    exits with 1 if a pack has changed since

A board is a folder of packs (`tailkeep pack`), each with its arms and the baseline that ran beside them. Rule: an arm
is paired with the baseline of its own pack, so of the same machine; all packs of a board have the same baseline, and
all arms its data and its evaluation.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tailkeep.metrics import Interval
from tailkeep.report import formatting
from tailkeep.report.lab.paired_differences import Difference
from tailkeep.report.lab.stats import GroupSummary, summarise
from tailkeep.runs import RunDirectory, differences

DOCS = Path(__file__).parent
PACKS = DOCS / "results" / "leaderboard"
PAGE = DOCS / "leaderboard.md"
ACCURACY, NLL = "kr_accuracy", "held_out_nll"
BASELINE = "baseline"
HEAD = "| arm | KR-test accuracy | minus baseline | held-out NLL, nats/token | minus baseline | generation | seeds |"


@dataclass(frozen=True)
class Row:
    """An arm at the last generation of its pack, and its difference from the baseline of that pack."""

    arm: str
    group: GroupSummary

    def value(self, metric: str) -> Interval:
        return self.group.common[self.arm][metric].final

    def difference(self, metric: str) -> Difference | None:
        pairs = (one for one in self.group.differences if (one.arm, one.metric) == (self.arm, metric))
        return next(pairs, None)

    def cells(self) -> Iterator[str]:
        yield f"`{self.arm}`"
        for metric in (ACCURACY, NLL):
            yield shown(self.value(metric))
            difference = self.difference(metric)
            if difference is None:
                yield ""
            else:
                words = shown(difference.final, signed=True)
                yield f"**{words}**" if difference.is_significant else words
        yield str(self.group.common_generation)
        yield str(next(len(arm.seeds) for arm in self.group.arms if arm.arm == self.arm))


def shown(one: Interval, *, signed: bool = False) -> str:
    """The mean with its bounds, as in a report; one seed has none."""
    bounds = formatting.interval(one, signed=signed)
    mean = formatting.mean(one, signed=signed)
    return f"{mean} ({bounds})" if bounds else mean


def check_arms(board: Path, packs: list[Path]) -> None:
    """Refuse a pack that is no comparison with this board's baseline."""
    inputs = {pack: RunDirectory.open(pack).record.sources["arms"] for pack in packs}
    expected = inputs[packs[0]].get(BASELINE)
    for pack, arms in inputs.items():
        if expected is None or BASELINE not in arms:
            sys.exit(f"{pack} has no arm {BASELINE!r}. Pack it with the arm: --arms {BASELINE},NAME.")
        if changed := list(differences(expected, arms[BASELINE])):
            sys.exit(f"{pack}: the baseline is not that of the board {board.name}: {'; '.join(changed)}.")
        for name in group_of(pack).common:
            for key in ("data", "evaluation"):
                if changed := list(differences(expected[key], arms[name][key])):
                    sys.exit(f"{pack}: {key} of {name} is not that of the board {board.name}: {'; '.join(changed)}.")


def group_of(pack: Path) -> GroupSummary:
    """The arms that have a KR-test; a recipe may have arms of another learner beside them."""
    groups = [group for group in summarise(pack).groups if ACCURACY in group.metrics]
    if not groups or not groups[0].common:
        sys.exit(f"{pack} has no KR-test that all of its arms have finished. Give `evaluation` its questions.")
    return groups[0]


def table(board: Path) -> str:
    """The rows of a board, the arm that gains most on top and the baseline of the first pack among them."""
    packs = sorted(path.parent for path in board.glob("*/run.json"))
    if not packs:
        sys.exit(f"{board} has no pack. Write one with tailkeep pack, or remove the folder.")
    check_arms(board, packs)
    groups = [group_of(pack) for pack in packs]
    rows = [Row(BASELINE, groups[0])]
    rows += [Row(arm, group) for group in groups for arm in group.common if arm != BASELINE]
    for pack, group in zip(packs, groups, strict=True):
        for arm in group.common:
            if [row.arm for row in rows].count(arm) > 1:
                sys.exit(f"{pack}: the board {board.name} has another arm {arm!r}. Give the arm a name of its own.")

    def gain(row: Row) -> float:
        difference = row.difference(ACCURACY)
        return difference.final.mean if difference else 0.0

    lines = [f"| {' | '.join(row.cells())} |" for row in sorted(rows, key=gain, reverse=True)]
    return "\n".join([HEAD, "|---" * 7 + "|", *lines])


def page_with_tables(page: str) -> str:
    """The page with the table of each board between its two marks."""
    for board in sorted(path for path in PACKS.iterdir() if path.is_dir()):
        start, end = f"<!-- board: {board.name} -->\n", "<!-- end -->"
        if page.count(start) != 1:
            sys.exit(f"{PAGE.name} has no place for the board {board.name}: write {start.strip()} and {end}.")
        before, after = page.split(start)
        page = f"{before}{start}\n{table(board)}\n\n{end}{after.split(end, 1)[1]}"
    return page


def main() -> None:
    """Write the tables, or check them."""
    before = PAGE.read_text(encoding="utf-8")
    after = page_with_tables(before)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(after, encoding="utf-8")
    elif after != before:
        sys.exit(f"{PAGE.name}: a pack has changed. Run python docs/leaderboard.py")


if __name__ == "__main__":
    main()
