"""What was found out once about this machine and its files, kept in a JSON file of the cache.

Takes and returns plain values by key; a file that is damaged or deleted costs time only. Also
the content hashes of files that are too large to read twice. Knows no models.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from promptlab.models.machine import cache_folder

SMALL = 1_000_000  # bytes; a smaller file is read again each time
HASHES, BATCHES = "file_hashes", "batches"  # the files
_BLOB = re.compile(r"[0-9a-f]{64}")


def recall(kind: str) -> dict[str, Any]:
    """Return all that is known of a kind, by key."""
    try:
        known = json.loads((cache_folder() / f"{kind}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(kind: str, key: str, value: Any) -> None:
    """Keep one value, written aside and renamed; of two writers at once, one may lose its value."""
    path = cache_folder() / f"{kind}.json"
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps({**recall(kind), key: value}), encoding="utf-8")
        aside.replace(path)
    except OSError:
        with suppress(OSError):
            aside.unlink()


def fingerprint(files: Iterable[Path], folder: Path, further: dict[str, object]) -> str:
    """Return 16 hex digits for the names and contents of files, and what else acts on an image."""
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else "weights"
        digest.update(f"{name}\0{file_hash(file)}\n".encode())
    if further:
        digest.update(json.dumps(further, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def file_hash(path: Path, least_bytes: int = SMALL) -> str:
    """Return a file's SHA-256, remembered from so many bytes on.

    A blob of the Hugging Face cache is named by its hash and not read.
    """
    target = path.resolve()
    if target.parent.name == "blobs" and _BLOB.fullmatch(target.name):
        return target.name
    key = _key(target)
    known = recall(HASHES).get(key)
    if known is None:
        with target.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
        if target.stat().st_size >= least_bytes:
            remember(HASHES, key, known)
    return str(known)


def paths_of_hash(prefix: str) -> list[Path]:
    """Return the remembered files whose hash begins so, and that have not changed since."""
    keys = [key for key, known in recall(HASHES).items() if known.startswith(prefix)]
    paths = ((Path(key.split("\0")[0]), key) for key in keys)
    return [path for path, key in paths if path.is_file() and _key(path) == key]


def _key(path: Path) -> str:
    """Return a key that is another one once the file has changed."""
    status = path.stat()
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
