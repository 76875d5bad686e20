"""Messages between a sweep and the follower of its run folder, one JSON object a line.

Both processes use these two classes, so that neither expects a field that the other does not
send. Knows no MLflow and no process.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True)
class _Message:
    def to_line(self) -> bytes:
        """Return the message as one line of JSON."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Return the message of one line; raises ValueError if it is none."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"{line!r} is no {cls.__name__}") from error


@dataclass(frozen=True, slots=True)
class Order(_Message):
    """From the sweep to its follower; the first one is "follow"."""

    kind: Literal["follow", "part", "finish", "gone"]  # "gone": the sweep has died, no more comes
    run: str = ""  # of "follow": the run folder
    options: dict[str, Any] = dataclasses.field(
        default_factory=dict
    )  # of "follow": TrackingOptions


@dataclass(frozen=True, slots=True)
class News(_Message):
    """From the follower to its sweep."""

    num_left: int | None = None  # images on disk that MLflow does not hold yet, at most
    warning: str | None = None  # a problem, and what to do about it
    is_finished: bool = False  # the follower has finished
