"""What the sweep and its workers say to each other: the same over a pipe and over Ray.

Plain records that pickle. Knows neither side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptlab.records import ImageFacts, Numerics, Request


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A model as a worker opens it, and what must be true of it there."""

    node: Mapping[str, Any] | None  # its config
    name: str
    fingerprint: str
    numerics: Numerics  # that the ids were made with


@dataclass(frozen=True, slots=True)
class Block:
    """An order: draw these requests, which share a group. None instead: there are no more."""

    model: ModelCall
    requests: tuple[Request, ...]
    wants_previews: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker runs and waits for its first block."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model of a block is loaded; `numerics` is the worker's, see machine.describe_numerics."""

    numerics: str


@dataclass(frozen=True, slots=True)
class Preview:
    """An image of the block as far as it is drawn."""

    image_id: str
    step: int  # the model's own; grows
    body: bytes  # PNG


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image of a request, or its failure."""

    image_id: str
    facts: ImageFacts
    body: bytes | None  # PNG without text chunks; None: failed


@dataclass(frozen=True, slots=True)
class Idle:
    """The model has drawn its block and wants another; images may still be on their way."""

    seconds: float  # that the model took for the block, loading left out


@dataclass(frozen=True, slots=True)
class Line:
    """A line for the sweep's log."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Beat:
    """The worker is alive."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The worker has ended: always its last message."""

    reason: str
    is_final: bool = False  # it cannot draw this model: another start would not help
    is_outdated: bool = False  # the model must be planned anew, see PlanOutdatedError
    is_device: bool = False  # its device or service is lost, which need not be a request's doing


Message = Ready | Loaded | Preview | Image | Idle | Line | Beat | Gone
