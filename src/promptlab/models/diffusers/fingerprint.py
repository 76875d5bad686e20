"""The content hash of files that are too large to read twice.

Takes paths, returns SHA-256 in hex. A blob of the Hugging Face cache is named by its hash; any
other large file is read once and remembered by path, size and modification time. Knows no models.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from promptlab.models.machine import cache_folder

SMALL = 1_000_000  # bytes; a smaller file is read again each time
_BLOB = re.compile(r"[0-9a-f]{64}")
_MEMORY = "file_hashes.json"


def fingerprint(files: Iterable[Path], folder: Path, further: dict[str, object]) -> str:
    """Return 16 hex digits for the names and contents of files, and what else acts on an image."""
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else "weights"
        digest.update(f"{name}\0{file_hash(file)}\n".encode())
    if further:
        digest.update(json.dumps(further, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def file_hash(path: Path, is_remembered: bool | None = None) -> str:
    """Return a file's SHA-256; a large one is remembered, or as `is_remembered` says."""
    target = path.resolve()
    if target.parent.name == "blobs" and _BLOB.fullmatch(target.name):
        return target.name
    key = _key(target)
    known = _remembered()
    if key not in known:
        with target.open("rb") as file:
            known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        if target.stat().st_size >= SMALL if is_remembered is None else is_remembered:
            _remember(key, known[key])
    return known[key]


def paths_of_hash(prefix: str) -> list[Path]:
    """Return the remembered files whose hash begins so, and that have not changed since."""
    hits = [
        (Path(key.split("\0")[0]), key)
        for key, known in _remembered().items()
        if known.startswith(prefix)
    ]
    return [path for path, key in hits if path.is_file() and _key(path) == key]


def _key(path: Path) -> str:
    status = path.stat()
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}"


def _remembered() -> dict[str, str]:
    try:
        known = json.loads((cache_folder() / _MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: the files are read again
        return {}
    return known if isinstance(known, dict) else {}


def _remember(key: str, digest: str) -> None:
    """Add one hash, written aside and renamed; of two writers at once, one may lose its entry."""
    path = cache_folder() / _MEMORY
    aside = path.with_name(f"{_MEMORY}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps({**_remembered(), key: digest}), encoding="utf-8")
        aside.replace(path)
    except OSError:  # a cache that cannot be written costs time only
        aside.unlink(missing_ok=True)
