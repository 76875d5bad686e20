"""Models that a server's children draw with, each named by its config alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptlab.models.protocol import OnPreview
from promptlab.records import Request, Result
from tests.painters import PaintModel, paint


@dataclass
class LoadingModel(PaintModel):
    """Notes in a file each time that it is loaded, in whatever process."""

    notes: str = ""

    def load(self) -> None:
        """Note it."""
        with Path(self.notes).open("a", encoding="utf-8") as file:
            file.write("load\n")


class ShowingModel(PaintModel):
    """Shows each image darkened before it is finished."""

    def draw_with_previews(
        self, requests: Sequence[Request], on_preview: OnPreview
    ) -> Iterator[Result]:
        """Draw as `draw` does, after a look at all images."""
        for step in (1, 2):
            images = [paint(request, self.size) // np.uint8(4 - step) for request in requests]
            on_preview(step, requests, np.stack(images))
        return self.draw(requests)
