"""What scoring beside a sweep costs the sweep, on a machine with a core to spare.

    python -m benchmarks.scoring               six sweeps of each kind, 240 images each: 7 minutes
    python -m benchmarks.scoring --pairs 1     one of each

The embedded model draws in one thread less than there are cores. Sweeps with and without scores
alternate, each in a process and a folder of its own. Speed is that from the first image to the
last; the time that the command takes after that is printed beside it. Prints a table, then one line
of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from promptlab.machine import cpu_name, usable_cores
from promptlab.store import read_run

NUM_SEEDS = 60  # of two subjects in two styles
GRID = ("-m", "subject=a fox,a robot", "style=noto,openmoji", f"seeds={NUM_SEEDS}")
SCORES = ("tiny_subject", "tiny_style", "sharpness", "colorfulness", "novelty", "spread")


def sweep(*arguments: str) -> dict[str, float]:
    """Draw the grid; return images/s between first and last, the whole time and the tail in s."""
    threads = str(max(1, usable_cores() - 1))
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        command = [sys.executable, "-m", "promptlab.cli", "sweep", *GRID, "tracking=null"]
        subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        ended = time.time()
        (run,) = Path(folder, "runs").glob("*")
        times = sorted(row["created_at"].timestamp() for row in read_run(str(run)).rows())
        return {
            "images_per_s": (len(times) - 1) / (times[-1] - times[0]),
            "whole_s": ended - began,
            "tail_s": ended - times[-1],
        }


def main() -> None:
    """Draw in turn with and without scores, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=6, help="sweeps of each kind (default: 6)")
    num_pairs = parser.parse_args().pairs
    print(f"{cpu_name()}, {usable_cores()} cores, Python {platform.python_version()}")
    kinds: dict[str, tuple[str, ...]] = {
        "without": (),
        "with": (f"score=[{','.join(SCORES)}]",),
    }
    seen: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(num_pairs):
        for kind in list(kinds)[:: 1 if number % 2 == 0 else -1]:
            seen[kind].append(sweep(*kinds[kind]))
            speed, whole_s, tail_s = seen[kind][-1].values()
            times = f"{tail_s:.1f} s after the last image of {whole_s:.0f} s"
            print(f"{kind:>7} scores: {speed:.2f} images/s, {times}", flush=True)
    found: dict[str, Any] = {
        kind: {name: round(statistics.median(s[name] for s in each), 3) for name in each[0]}
        for kind, each in seen.items()
    }
    found["share_of_speed"] = round(
        statistics.median(
            b["images_per_s"] / a["images_per_s"]
            for a, b in zip(seen["without"], seen["with"], strict=True)
        ),
        4,
    )
    print(f"with scores: {found['share_of_speed']:.1%} of the speed without (median of pairs)")
    print(json.dumps({"benchmark": "scoring", "scorers": SCORES, **found}))


if __name__ == "__main__":
    main()
