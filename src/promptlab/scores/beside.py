"""Scoring while a sweep draws: a process of its own, at the lowest priority, on one core.

Takes the parts that the store has written; on leaving, every image has its scores. The process
reads a line a part on stdin; "finish" says that nothing more comes, the end without it that the
sweep has died. Scorers that look at more than one image wait for the end. What it could not score
is a line on its stdout. Knows no plan and no model.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

from promptlab.errors import PromptlabError
from promptlab.machine import own_session
from promptlab.paths import RunPaths
from promptlab.scores.protocol import Scorer
from promptlab.scores.registry import open_scorers
from promptlab.scores.scoring import Resident, Tally, score_run
from promptlab.scores.summary import write_summary
from promptlab.store.storage import open_storage

log = logging.getLogger(__name__)

FINISH = "finish"
LOWEST = 19  # niceness: drawing comes first
MIN_NEW = 64  # images; a pass reads what is known of the whole run
GROWTH = 0.2  # and so many of those scored: all passes together cost a few of the last one


class Beside:
    """The process that scores, seen from the sweep."""

    def __init__(self, paths: RunPaths, names: Sequence[str]) -> None:
        self._paths = paths
        self._process: subprocess.Popen[str] | None = None
        self._before = self._written_at()
        if names:
            open_scorers(names)  # unknown ones are refused before anything is drawn
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, paths.root, *names],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                **own_session(),  # Ctrl-C is for the sweep
            )

    @property
    def has_scored(self) -> bool:
        """Whether there are scores that were not there before."""
        return self._written_at() != self._before

    def note(self, batch: Sized) -> None:
        """Take a stored part."""
        self.tell(str(len(batch)))

    def tell(self, line: str) -> None:
        """Send a line; a process that has ended says why at the end."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()

    def abandon(self) -> None:
        """Score nothing more: the sweep was interrupted."""
        if self._process is not None:
            self._process.terminate()

    def close(self) -> None:
        """Wait for the end of the process and pass on what it says."""
        if self._process is None:
            return
        lines, _ = self._process.communicate()
        for line in lines.splitlines():
            log.warning("%s", line)
        if self._process.returncode:
            log.warning("Not all images are scored; later: promptlab score %s", self._paths.root)

    def _written_at(self) -> float | None:
        return open_storage(self._paths.root).modified_at(self._paths.scores_parquet)


@contextmanager
def scoring_beside(paths: RunPaths, names: Sequence[str]) -> Iterator[Beside]:
    """Score a run while the block adds to it; on leaving, every image has its scores.

    Without names nothing happens. A scorer that fails is a warning: its images can be scored later.
    """
    beside = Beside(paths, names)
    try:
        yield beside
        beside.tell(FINISH)
    except BaseException:
        beside.abandon()
        raise
    finally:
        beside.close()


def follow(root: str, scorers: Sequence[Scorer], lines: Callable[[], list[str]]) -> list[Tally]:
    """Score a run as it grows until "finish"; return what is left to say of each scorer."""
    steady = [scorer for scorer in scorers if scorer.scope == "image"]
    num_scored = num_new = 0
    while True:
        told = lines()
        if FINISH in told:
            return score_run(root, scorers)
        if not told:
            return []
        num_new += sum(map(int, told))
        if num_new >= max(MIN_NEW, GROWTH * num_scored):
            score_run(root, steady)
            num_scored, num_new = num_scored + num_new, 0


def main() -> int:
    """Run the process."""
    os.nice(LOWEST)
    root, *names = sys.argv[1:]
    told: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            told.put(line.strip())
        told.put(None)

    def lines() -> list[str]:
        found = [told.get()]
        while not told.empty():
            found.append(told.get())
        return [line for line in found if line is not None]

    threading.Thread(target=listen, daemon=True).start()
    try:
        scorers: list[Any] = [Resident(scorer) for scorer in open_scorers(names)]
        tallies = follow(root, scorers, lines)
        if tallies:
            write_summary(root)
    except PromptlabError as error:
        print(error)
        return 1
    for tally in tallies:
        if tally.num_failed:
            print(f"{tally.scorer.name} failed on {tally.num_failed}: {tally.first_error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
