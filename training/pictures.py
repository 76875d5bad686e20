"""The data set as a value: pixels with their subject, style and held-out mark.

Takes and returns arrays. Does not know where pictures come from or how they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pictures:
    """All images of the data set, one row each."""

    pixels: NDArray[np.uint8]  # [image, row, column, 3]
    subject: NDArray[np.int64]  # [image], index into `subjects`
    style: NDArray[np.int64]  # [image], index into `sources.style_names()`
    is_held_out: NDArray[np.bool_]  # [image], never trained on
    subjects: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def describe(self) -> dict[str, Any]:
        """Return everything but the pixels, as arrays that `from_arrays` reads."""
        return {
            "subject": self.subject,
            "style": self.style,
            "is_held_out": self.is_held_out,
            "subjects": np.array(self.subjects),
            "aliases": np.array(["|".join(aliases) for aliases in self.aliases]),
        }

    @classmethod
    def from_arrays(cls, pixels: NDArray[np.uint8], arrays: Any) -> Pictures:
        """Build the data set from its pixels and the arrays of `describe`."""
        return cls(
            pixels,
            arrays["subject"],
            arrays["style"],
            arrays["is_held_out"],
            tuple(arrays["subjects"].tolist()),
            tuple(tuple(filter(None, row.split("|"))) for row in arrays["aliases"].tolist()),
        )
