"""One class owns every path of a run folder.

Takes the folder, returns paths below it. Creates nothing, reads nothing. A run folder is a local
path or an fsspec URL ("s3://bucket/runs/…"); paths inside are plain strings joined with "/".
"""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass

MAX_NAME_BYTES = 255
_REFUSED_CHARACTERS = frozenset('<>:"/\\|?*')  # by Windows
_DEVICES = frozenset(  # of Windows, whatever ending such a name has
    ("con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in "123456789"))
)
MAX_SLUG_LENGTH = 60  # characters of the prompt in a file name; image_id keeps names unique


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The paths of one run folder."""

    root: str

    def __post_init__(self) -> None:
        root = str(self.root)
        if sys.platform == "win32" and "://" not in root:
            root = root.replace("\\", "/")
        object.__setattr__(self, "root", root.rstrip("/"))

    def join(self, *parts: str) -> str:
        """Return a path below the run folder."""
        return "/".join((self.root, *parts))

    @property
    def name(self) -> str:
        """The run folder's own name: <date>_<time>_<sweep>."""
        return self.root.rsplit("/", 1)[-1]

    @property
    def sweep_yaml(self) -> str:
        """The resolved sweep: overrides, axes, versions, git revision, hardware."""
        return self.join("sweep.yaml")

    @property
    def images(self) -> str:
        """Folder of one PNG per image."""
        return self.join("images")

    @property
    def images_parquet(self) -> str:
        """Folder of append-only parts."""
        return self.join("images.parquet")

    @property
    def picks_parquet(self) -> str:
        """People's verdicts, joined by image_id."""
        return self.join("picks.parquet")

    @property
    def scores_parquet(self) -> str:
        """Programs' verdicts, joined by image_id."""
        return self.join("scores.parquet")

    @property
    def index_html(self) -> str:
        """The contact sheet."""
        return self.join("index.html")

    @property
    def contact_sheet_png(self) -> str:
        """The contact sheet as one picture."""
        return self.join("contact_sheet.png")

    @property
    def log(self) -> str:
        """What the run printed."""
        return self.join("sweep.log")

    @property
    def requests(self) -> str:
        """What was sent to hosted models and what it cost, and answers until they are stored."""
        return self.join("requests")

    @property
    def lock(self) -> str:
        """Held by the one process that writes the folder."""
        return self.join(".lock")

    def part(self, number: int) -> str:
        """Return the path of one part of images.parquet."""
        return self.join("images.parquet", f"part-{number:06d}.parquet")


def is_portable(name: str) -> bool:
    """Tell whether Linux, macOS and Windows all take a name for a file or a folder."""
    return (
        0 < len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES
        and min(name) >= " "
        and not _REFUSED_CHARACTERS & {*name}
        and name[-1] not in ". "
        and name.partition(".")[0].rstrip().lower() not in _DEVICES
    )


def slugify(text: str, max_length: int = MAX_SLUG_LENGTH) -> str:
    """Return a readable ASCII file-name part of any text: lower case, digits and hyphens only.

    Never empty, never hidden, never with a path separator, whatever the prompt holds.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower())[:max_length].strip("-")
    return slug or "image"


def image_path(prompt: str, seed: int, image_id: str) -> str:
    """Return an image's path relative to the run folder."""
    return f"images/{slugify(prompt)}_s{seed}_{image_id}.png"
