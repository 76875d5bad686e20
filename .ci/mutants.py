#!/usr/bin/env python3
"""Change one module in small ways, in a copy of the working tree, and list what no test notices.

    make mutants MODULE=src/promptlab/store/parts.py
    make mutants MODULE=src/promptlab/identity.py TESTS=tests/planning SAMPLE=20

Takes a module, the tests that should notice (by default those of its room) and how many of the
changes to try (by default 40, a fixed random choice; 0: all). Each one costs a run of these tests.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPY = ROOT / "build" / "mutants"
CONFIG = """\
[cosmic-ray]
module-path = "{module}"
timeout = {timeout_s}
excluded-modules = []
test-command = "{command}"

[cosmic-ray.distributor]
name = "local"

# Annotations are text and equal whatever their operators; decorators are mostly dataclasses'.
[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*", "core/RemoveDecorator"]
"""
TIMEOUT_S = 600.0
SEED = 0


def tests_of(module: Path) -> str:
    """Return the tests that stand where the module stands: its room's, or its own."""
    inside = module.relative_to("src/promptlab") if module.is_relative_to("src") else module
    own = Path("tests", inside.parent, f"test_{inside.stem}.py")
    room = Path("tests", inside.parent)
    if inside.parent == Path():
        room = own
    if not (ROOT / room).exists():
        sys.exit(f"mutants: {module} has no tests at {room}; say TESTS=…")
    return room.as_posix()


def copy_tree() -> Path:
    """Copy what git tracks or would track; return the Python that imports from the copy."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)
    venv.create(COPY / ".venv", symlinks=True)
    (packages,) = (COPY / ".venv").glob("lib/python*/site-packages")
    installed = [
        path for path in sys.path if path.endswith("-packages") or "/site-packages/" in path
    ]
    (packages / "copy.pth").write_text("\n".join([str(COPY / "src"), *installed]) + "\n")
    return COPY / ".venv" / "bin" / "python"


def keep_sample(session: Path, size: int) -> int:
    """Leave a fixed random choice of the changes that no filter skips; return their number."""
    with sqlite3.connect(session) as database:
        skipped = {job for (job,) in database.execute("SELECT job_id FROM work_results")}
        jobs = {job for (job,) in database.execute("SELECT job_id FROM work_items")}
        tried = sorted(jobs - skipped)
        if 0 < size < len(tried):
            tried = random.Random(SEED).sample(tried, size)
        dropped = [(job,) for job in jobs.difference(tried)]
        for table in ("work_results", "mutation_specs", "work_items"):
            database.executemany(f"DELETE FROM {table} WHERE job_id = ?", dropped)
    return len(tried)


def main() -> None:
    """Copy, change, test, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("--tests", default="")
    parser.add_argument("--sample", type=int, default=40)
    options = parser.parse_args()
    module = options.module.resolve().relative_to(ROOT)
    tests = options.tests or tests_of(module)
    python = copy_tree()
    command = f"{python} -m pytest -q -x -p no:cacheprovider -m 'not slow and not gpu' {tests}"
    config, session = COPY / "mutants.toml", COPY / "mutants.sqlite"
    config.write_text(CONFIG.format(module=module, timeout_s=TIMEOUT_S, command=command))

    def cosmic_ray(tool: str, *arguments: str | Path) -> None:
        path = Path(sys.executable).with_name(tool)
        subprocess.run([path, *arguments], cwd=COPY, check=True)

    cosmic_ray("cosmic-ray", "init", config, session)
    cosmic_ray("cr-filter-operators", session, config)
    print(f"mutants: {keep_sample(session, options.sample)} changes of {module}, tried on {tests}")
    cosmic_ray("cosmic-ray", "baseline", config)
    cosmic_ray("cosmic-ray", "exec", config, session)
    cosmic_ray("cr-report", "--surviving-only", "--show-diff", session)
    cosmic_ray("cr-rate", session)


if __name__ == "__main__":
    main()
