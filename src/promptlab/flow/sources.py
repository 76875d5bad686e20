"""The images that others are drawn from: found in earlier runs, read when they are handed out.

Takes image_ids and the folder of runs, returns sources. Draws and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from promptlab.errors import StoreError
from promptlab.records import Request, Source
from promptlab.store import Run, find_image


@dataclass
class Sources:
    """Sources below a folder of runs; a run that holds one is looked for once."""

    runs_dir: str
    _runs: dict[str, Run] = field(default_factory=dict)  # by image_id

    def find(self, image_id: str) -> Source:
        """Return an image as a source, without its bytes; the id may be shortened."""
        run, row = find_image(image_id, self.runs_dir)
        if row["sha256"] is None:
            raise StoreError(f"The image {row['image_id']} failed: there is nothing to draw from.")
        self._runs[row["image_id"]] = run
        return Source(row["image_id"], row["sha256"])

    def with_bytes(self, request: Request) -> Request:
        """Return the request with the bytes of its source; one without a source as it is."""
        source = request.source
        if source is None or source.png:
            return request
        if source.image_id not in self._runs:
            self.find(source.image_id)
        png = self._runs[source.image_id].image_bytes(source.image_id)
        if png is None:
            raise StoreError(f"The PNG of the image {source.image_id} is gone.")
        return replace(request, source=replace(source, png=png))
