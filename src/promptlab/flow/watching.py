"""What a sweep reports while it runs, to whoever watches it: its plan, then each image.

The default watches nothing. Methods are called on the sweep's own thread and return at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from promptlab.flow.summary import Session
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan
from promptlab.workers.messages import Preview


class Watch:
    """Watches nothing; a subclass overrides what it wants to hear."""

    wants_previews = False  # unfinished images, of workers whose model can show them

    def planned(
        self,
        plan: Plan,
        num_pending: int,
        summary: str,
        paths: RunPaths,
        rows: Iterable[Mapping[str, Any]],
    ) -> None:
        """Hear what will be drawn, and where; `rows` are the pending ones, see Store.pending_rows.

        Of a plan alone, `rows` is empty and the run folder need not exist.
        """

    def drawn(self, session: Session, num_pending: int) -> None:
        """Hear of one more image, and how many are left."""

    def previewed(self, preview: Preview) -> None:
        """See an image that is not finished."""
