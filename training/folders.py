"""Where training reads and writes: the one list of its folders."""

from __future__ import annotations

from pathlib import Path

DATA_DIR = Path(__file__).parent / "data"  # archives and pictures
RUNS_DIR = Path(__file__).parent / "runs"  # checkpoints, tokens, judges
PACKAGE_DIR = Path(__file__).parents[1] / "src" / "promptlab" / "models" / "tiny"
