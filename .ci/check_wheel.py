"""Check that a wheel holds what promptlab needs: `python .ci/check_wheel.py dist/*.whl`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import PurePosixPath

MAX_MB = 60
NEEDED = (
    "promptlab/packaged/conf/promptlab.yaml",
    "promptlab/packaged/sweeps/subject_x_style.yaml",
    "promptlab/models/tiny/config.json",
    "promptlab/models/tiny/model.safetensors",
    "promptlab/scores/tiny_match/tiny_match.safetensors",
    "promptlab/report/static/main.js",
    "hydra_plugins/promptlab_launcher.py",
)
FORBIDDEN_PARTS = {"tests", "runs", "mlruns", "mlartifacts", "benchmarks", "training", ".git"}
# Windows refuses these in names of files.
FORBIDDEN_CHARACTERS = set('<>:"|?*\\')


def problems_of(path: str) -> list[str]:
    """Return what is wrong with a wheel, one line each."""
    with zipfile.ZipFile(path) as wheel:
        sizes = {info.filename: info.file_size for info in wheel.infolist()}
    problems = [f"{name} is missing" for name in NEEDED if name not in sizes]
    for licence in ("LICENSE", "NOTICE"):
        if not any(name.endswith(f"/licenses/{licence}") for name in sizes):
            problems.append(f"{licence} is missing")
    for name in sizes:
        if FORBIDDEN_PARTS & {*PurePosixPath(name).parts}:
            problems.append(f"{name} does not belong into a wheel")
        if FORBIDDEN_CHARACTERS & {*name}:
            problems.append(f"{name} cannot be a file on Windows")
    lower = [name.lower() for name in sizes]
    problems += [
        f"{name} differs from another in case alone"
        for name in sizes
        if lower.count(name.lower()) > 1
    ]
    total = sum(sizes.values()) / 2**20
    if total > MAX_MB:
        problems.append(f"{total:.0f} MB unpacked, more than {MAX_MB}")
    return problems


if __name__ == "__main__":
    found = [f"{wheel}: {problem}" for wheel in sys.argv[1:] for problem in problems_of(wheel)]
    print("\n".join(found) or "The wheel holds what it needs.")
    sys.exit(bool(found))
