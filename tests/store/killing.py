"""Processes that draw a sweep and are killed at any moment, quickly many of them.

One process imports what drawing needs and forks a child for each attempt. A child is killed some
random number of file operations after its start, plus some random microseconds: so kills fall
between any two steps and inside of them, and as often on a busy machine as on a quiet one.
"""

import builtins
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from promptlab.paths import RunPaths
from promptlab.store import compaction, folder, read_run
from tests.store.painting import Painter, make_plan, paint
from tests.store.sweeping import draw_plan, pixels_of

MAX_OPERATIONS = 80  # about sixteen images
MAX_DELAY_S = 0.003


def kill_plan(number):
    """Return the plan of one of several different sweeps."""
    return make_plan(
        subjects=tuple(f"subject {n}" for n in range(6 + number)),
        styles=("noto", "openmoji"),
        seeds=range(5),
        sweep=f"killed {number}",
        model=Painter(),
    )


def draw_in_child(root, number, kill_seed):
    """Draw what is pending of a sweep; small parts, merged often, so that kills hit merging."""
    compaction.TARGET_ROWS = folder.TARGET_ROWS = 30
    if kill_seed is not None:
        arm_kill(random.Random(kill_seed))
    draw_plan(RunPaths(root), kill_plan(number), part_rows=5, flush_s=0.02)


def arm_kill(random_):
    """Have this process killed after a random number of file operations and a random delay."""
    left = random_.randint(1, MAX_OPERATIONS)
    delay_s = random_.choice([0.0, random_.uniform(0.0, MAX_DELAY_S)])

    def kill():
        time.sleep(delay_s)
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(operation):
        def count(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0 and delay_s == 0.0:
                kill()
            elif left == 0:
                threading.Thread(target=kill).start()
            return operation(*args, **kwargs)

        return count

    os.fsync = counted(os.fsync)
    os.replace = counted(os.replace)
    os.unlink = counted(os.unlink)
    builtins.open = counted(open)


def nursery():
    """Fork a child for each line on stdin; print how it ended.

    A kill takes nothing from the kernel, so no child waits for the disk.
    """
    os.fsync = os.fstat
    import yaml  # noqa: F401  which a child would import for its run's record

    for line in sys.stdin:
        arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            draw_in_child(*arguments)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


@contextlib.contextmanager
def open_nursery():
    """Start the process whose forks draw; give a function that has a sweep drawn by one."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.killing"],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def draw(root, number, kill_seed=None):
        process.stdin.write(json.dumps([root, number, kill_seed]) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    with process:
        yield draw
        process.stdin.close()


def draw_and_kill(draw, root, number, num_kills):
    """Have a sweep drawn again and again, killed at random; return the rows at each kill.

    Ends when the sweep is complete: after `num_kills` it is left to finish. After every kill the
    folder is looked at as it is, before anything repairs it.
    """
    rows_at_kills = []
    while True:
        is_last = len(rows_at_kills) >= num_kills
        kill_seed = None if is_last else 1000 * number + len(rows_at_kills)
        exit_code = draw(root, number, kill_seed)
        if exit_code == 0:
            return rows_at_kills
        assert exit_code == -signal.SIGKILL
        rows_at_kills.append(count_whole_rows(root))


def count_whole_rows(root):
    """Return how many rows a reader sees in a folder whose writer was just killed.

    Asserts that it sees no request twice and that the PNG of every row is there, whole.
    """
    if not os.path.exists(f"{root}/images.parquet"):
        return 0
    run = read_run(root)
    rows = run.rows()
    assert len({(row["cell_id"], row["seed"]) for row in rows}) == len(rows)
    for row in rows:
        with open(run.paths.join(row["path"]), "rb") as file:
            assert (pixels_of(file.read()) == paint(row["image_id"])).all()
    return len(rows)


if __name__ == "__main__":
    nursery()
