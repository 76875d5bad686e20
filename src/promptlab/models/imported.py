"""A model whose images were drawn elsewhere and imported: known by name, never run.

Takes what the images say of it. Satisfies the model protocol, so that plan, store, page and
`verify` treat imported images like any others; drawing with it is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from promptlab.errors import ModelError
from promptlab.models.protocol import Parameter
from promptlab.records import IMPORTED, Request, Result


@dataclass(frozen=True)
class ImportedModel:
    """The model of images that were imported."""

    name: str
    fingerprint: str  # made of the hash that the images name, or of the model's name
    width: int = 0  # px of its first image
    height: int = 0
    device: str = IMPORTED
    dtype: str = "unknown"
    is_deterministic: bool = False

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of its first image in px."""
        return self.width, self.height

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """None: what the images say of their parameters is kept as it is."""
        return {}

    def load(self) -> None:
        """Refuse: the weights are elsewhere."""
        raise ModelError(f"The images of {self.name} were imported: they cannot be drawn here.")

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Refuse, as `load` does."""
        self.load()
        yield from ()

    def unload(self) -> None:
        """Free nothing."""
