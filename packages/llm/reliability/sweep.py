"""Train several runs at once in one folder, as a sweep over learning rates does, and check that none disturbs another.

Each round has three contests of four processes that start together: four runs whose names begin alike, all of which must
finish; four runs of one name, of which one must finish and three be refused; and four that overwrite that run. A user's
folder that looks like a temporary one must stay.

    python packages/llm/reliability/sweep.py [--rounds N]

Not for Windows, which has no fork.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that forks must have one thread

from tiny import trainer

from axone.llm import CheckpointError, Run, RunBusyError, RunExistsError, Trainer

STEPS = 3
ALIKE = ("lr", "lr1", "lr10", "lr100")
PRECIOUS = ".lr-my-precious.tmp"
FINISHED, REFUSED, FAILED = 0, 10, 20


def main() -> int:
    """Run all rounds; return 1 if a process failed or a run is damaged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="number of rounds (default: 40)")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            one_round(Path(name), outcomes)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6}  {outcome}")
    print(f"{options.rounds:6}  rounds of three contests of {len(ALIKE)} processes")
    return 1 if any("failed" in outcome or "damaged" in outcome for outcome in outcomes) else 0


def one_round(folder: Path, outcomes: Counter[str]) -> None:
    """Run the three contests in an empty folder, and count their outcomes."""
    (folder / PRECIOUS).mkdir()
    (folder / PRECIOUS / "thesis.txt").write_text("years of work", encoding="utf-8")
    alike = together(folder, ALIKE, overwrite=False)
    outcomes["alike: finished"] += alike.count(FINISHED)
    outcomes["alike: failed"] += len(alike) - alike.count(FINISHED)
    for contest, overwrite in (("one name", False), ("overwriting", True)):
        codes = together(folder, ("one",) * len(ALIKE), overwrite=overwrite)
        outcomes[f"{contest}: finished"] += codes.count(FINISHED)
        outcomes[f"{contest}: refused in one sentence"] += codes.count(REFUSED)
        right = codes.count(FINISHED) == 1 if not overwrite else codes.count(FINISHED) >= 1
        wrong = len(codes) - codes.count(FINISHED) - codes.count(REFUSED)
        outcomes[f"{contest}: failed"] += wrong if right else max(wrong, 1)
    for run in {*ALIKE, "one"}:
        outcomes["runs: valid" if is_valid(folder / run) else "runs: damaged"] += 1
    left = {path.name for path in folder.iterdir()} - {*ALIKE, "one"}
    outcomes["folders: nothing left or lost" if left == {PRECIOUS} else f"folders: damaged {sorted(left)}"] += 1
    for outcome in [outcome for outcome, count in outcomes.items() if not count]:
        del outcomes[outcome]


def together(folder: Path, names: tuple[str, ...], *, overwrite: bool) -> list[int]:
    """Train runs of given names in processes that start together, and return their exit codes."""
    reading, writing = os.pipe()
    children = []
    for name in names:
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # returns when the parent closes its end
            os._exit(outcome_of(folder / name, overwrite=overwrite))
        children.append(child)
    os.close(writing)
    os.close(reading)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def outcome_of(run: Path, *, overwrite: bool) -> int:
    """Train a run, and return the exit code of the process."""
    try:
        trainer(run, STEPS, overwrite=overwrite).fit()
    except (RunExistsError, RunBusyError) as error:
        return REFUSED if str(run) in str(error) and "\n" not in str(error) else FAILED
    except BaseException as error:  # noqa: BLE001 - any other error is a failure
        print(f"{run.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return FAILED
    return FINISHED


def is_valid(run: Path) -> bool:
    """Return whether a run was trained to its end and can be resumed."""
    try:
        return Run(run).latest().step == STEPS and Trainer.resume(run).fit().outcome == "finished"
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(main())
