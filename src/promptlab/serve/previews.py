"""Unfinished images of urgent entries: the runner puts them in, the images API shows them.

The latest of each image, until its entry has ended. Threads may use it at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preview:
    """An image as far as it is drawn."""

    image_id: str
    step: int  # the model's own; grows
    png: str  # base64


class Previews:
    """The previews of all entries that are being drawn."""

    def __init__(self) -> None:
        self._latest: dict[int, dict[str, Preview]] = {}

    def put(self, entry_id: int, image_id: str, step: int, png: str) -> None:
        """Take a preview in the place of the image's former one."""
        self._latest.setdefault(entry_id, {})[image_id] = Preview(image_id, step, png)

    def of(self, entry_id: int) -> list[Preview]:
        """Return the previews of an entry."""
        return list(self._latest.get(entry_id, {}).values())

    def drop(self, entry_id: int) -> None:
        """Forget an entry that has ended."""
        self._latest.pop(entry_id, None)
