"""The PNG format: pixels compressed in one place, texts put beside them in another.

Takes RGB pixels or PNG bytes, returns PNG bytes and texts. Does not know what the texts say.
A model's latent of an image lies in a private chunk: other programs ignore it, and those that
change pixels drop it, because the chunk is marked as unsafe to copy.
Compressing takes milliseconds an image; adding texts copies bytes.

The encoder is our own because it takes 1.6 ms where Pillow takes 4.0 at its fastest (256 px, one
EPYC core), for files a fifth larger, and, like zlib, leaves Python's lock to the drawing thread.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXT_KINDS = frozenset({b"tEXt", b"iTXt", b"zTXt"})
_HEADER_END = len(SIGNATURE) + 25  # the header chunk has 13 bytes, and 12 around them
_LATENT_KIND = b"plLT"  # small, small, capital, capital: optional, private, unsafe to copy
_UP_FILTER = 2
_RGB = 2


def hash_pixels(pixels: np.ndarray) -> str:
    """Return the SHA-256 of uint8 RGB pixels [height, width, 3], row by row."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def compress(pixels: np.ndarray, latent: bytes = b"") -> bytes:
    """Return a PNG of uint8 RGB pixels [height, width, 3], without texts; see `read_latent`."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(_LATENT_KIND, latent) if latent else b"",
            _chunk(b"IDAT", _compress(_filter_rows(pixels))),
            _chunk(b"IEND", b""),
        )
    )


def text_chunk(keyword: str, text: str) -> bytes:
    """Return a tEXt chunk, or iTXt where Latin-1 does not reach; neither may hold NUL."""
    try:
        encoded = text.replace("\0", " ").encode("latin-1")
    except UnicodeEncodeError:
        return unicode_chunk(keyword, text)
    return _chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + encoded)


def unicode_chunk(keyword: str, text: str) -> bytes:
    """Return an iTXt chunk, which may not hold NUL."""
    encoded = text.replace("\0", " ").encode("utf-8")
    # keyword, NUL, not compressed, method 0, no language, no translated keyword
    return _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + encoded)


def add_texts(body: bytes, *texts: bytes) -> bytes:
    """Return a PNG with text chunks, made by `text_chunk` or `unicode_chunk`."""
    return b"".join((body[:_HEADER_END], *texts, body[_HEADER_END:]))


def drop_texts(png: bytes) -> bytes:
    """Return a PNG without its texts."""
    kept = [png[start:end] for kind, start, end in _chunks(png) if kind not in _TEXT_KINDS]
    return b"".join((SIGNATURE, *kept))


def read_text(png: bytes, keyword: str) -> str | None:
    """Return the text of a keyword in a PNG, None without one."""
    prefix = keyword.encode("latin-1") + b"\0"
    for kind, start, end in _chunks(png):
        data = png[start + 8 : end - 4]
        if kind == b"tEXt" and data.startswith(prefix):
            return data[len(prefix) :].decode("latin-1")
        if kind == b"iTXt" and data.startswith(prefix):
            return data[len(prefix) + 4 :].decode("utf-8")
    return None


def read_latent(png: bytes) -> bytes:
    """Return the latent that an image was stored with, b"" without one."""
    for kind, start, end in _chunks(png):
        if kind == _LATENT_KIND:
            return png[start + 8 : end - 4]
    return b""


def _chunks(png: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of each chunk, its length and checksum included."""
    start = len(SIGNATURE)
    while start + 8 <= len(png):
        (length,) = struct.unpack_from(">I", png, start)
        end = start + length + 12
        yield png[start + 4 : start + 8], start, end
        start = end


def _filter_rows(pixels: np.ndarray) -> memoryview:
    """Return the scan lines, each as its difference to the line above."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, width * 3)
    lines = np.empty((height, width * 3 + 1), np.uint8)
    lines[:, 0] = _UP_FILTER
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])  # wraps around, as PNG wants
    return lines.data


def _compress(lines: memoryview) -> bytes:
    """Deflate, looking for runs of one byte alone.

    Differences to the line above hold little else: zlib's search for longer matches at the same
    level takes up to twice the time and makes files a tenth larger, not smaller.
    """
    deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
    return deflate.compress(lines) + deflate.flush()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        (
            struct.pack(">I", len(data)),
            kind,
            data,
            struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))),
        )
    )
