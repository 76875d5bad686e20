"""PNG files that carry what made them.

Takes RGB pixels and plain facts, returns the bytes of a PNG; reads the facts back from one. Two
texts go inside: `parameters`, as A1111 writes it and sd-parsers and Civitai read it, and
`promptlab`, one iTXt chunk of canonical JSON, the source of truth. Both hold only what is the
same each time an image is drawn: no time, no machine.

The encoder is our own because it takes 1.6 ms where Pillow takes 4.0 at its fastest (256 px, one
EPYC core), for files a fifth larger, and, like zlib, leaves Python's lock to the drawing thread.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from promptlab.identity import canonical_json

SIGNATURE = b"\x89PNG\r\n\x1a\n"
JSON_KEYWORD = "promptlab"
_UP_FILTER = 2
_RGB = 2


def encode_png(pixels: np.ndarray, facts: Mapping[str, Any], params_line: str) -> bytes:
    """Return a PNG of uint8 RGB pixels [height, width, 3] that carries the facts.

    Facts need `prompt`, `seed`, `model`, `model_fingerprint`; more are welcome. `params_line` has
    the sampling parameters as the model writes them for A1111.
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", header),
            _text_chunk("parameters", a1111_parameters(facts, params_line, width, height)),
            _international_chunk(JSON_KEYWORD, canonical_json(dict(facts))),
            _chunk(b"IDAT", _compress(_filter_rows(pixels))),
            _chunk(b"IEND", b""),
        )
    )


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


def _text_chunk(keyword: str, text: str) -> bytes:
    """Return a tEXt chunk, or iTXt where Latin-1 does not reach; neither may hold NUL."""
    try:
        encoded = text.replace("\0", " ").encode("latin-1")
    except UnicodeEncodeError:
        return _international_chunk(keyword, text)
    return _chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + encoded)


def _international_chunk(keyword: str, text: str) -> bytes:
    encoded = text.replace("\0", " ").encode("utf-8", "backslashreplace")
    # keyword, NUL, not compressed, method 0, no language, no translated keyword
    return _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + encoded)


def a1111_parameters(facts: Mapping[str, Any], params_line: str, width: int, height: int) -> str:
    """Return the text that other tools read: the prompt, then one line of settings, Steps first."""
    settings = {
        "Seed": facts["seed"],
        "Size": f"{width}x{height}",
        "Model hash": facts["model_fingerprint"],
        "Model": facts["model"],
        "Version": f"promptlab {facts.get('promptlab_version', '')}".strip(),
    }
    further = [f"{name}: {_plain(value)}" for name, value in settings.items()]
    return f"{facts['prompt']}\n{', '.join([params_line, *further])}"


def _plain(value: Any) -> str:
    """Keep the settings line parsable: a colon or comma of ours would start another setting."""
    return re.sub(r"[:,\r\n]+", " ", str(value))


def read_facts(png: bytes) -> dict[str, Any]:
    """Return the facts that `encode_png` wrote; {} for a PNG without them."""
    position = len(SIGNATURE)
    prefix = JSON_KEYWORD.encode() + b"\0"
    while position + 8 <= len(png):
        (length,) = struct.unpack_from(">I", png, position)
        kind, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        if kind == b"iTXt" and data.startswith(prefix):
            return json.loads(data[len(prefix) + 4 :].decode("utf-8"))
        position += length + 12
    return {}
