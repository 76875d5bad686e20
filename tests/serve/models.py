"""Models that a server's children draw with, each named by its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.painters import PaintModel


@dataclass
class LoadingModel(PaintModel):
    """Notes in a file each time that it is loaded, in whatever process."""

    notes: str = ""

    def load(self) -> None:
        """Note it."""
        with Path(self.notes).open("a", encoding="utf-8") as file:
            file.write("load\n")
