"""The emoji sets the model learns from: pinned npm packages, checked by hash.

Takes nothing but the pins below; returns parsed `icons.json` documents and the names table.
Does not know about subjects, pixels or models. Needs the `npm` client once, then no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from training.folders import DATA_DIR


@dataclass(frozen=True)
class Package:
    """One npm package at one version; `integrity` is npm's own sha512 string."""

    name: str
    version: str
    integrity: str

    @property
    def filename(self) -> str:
        """The archive name that `npm pack` gives."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @cached_property
    def archive(self) -> Path:
        """The verified archive on disk, fetched if it is not there yet."""
        path = DATA_DIR / "npm" / self.filename
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            command = ["npm", "pack", f"{self.name}@{self.version}", "--silent"]
            subprocess.run(command, cwd=path.parent, check=True, capture_output=True)
        digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != self.integrity:
            raise ValueError(
                f"{path.name}: expected {self.integrity}, got sha512-{digest}; "
                "delete the file and run again"
            )
        return path

    def read_json(self, member: str) -> Any:
        """Parse one JSON file of the package."""
        with tarfile.open(self.archive) as archive:
            file = archive.extractfile(f"package/{member}")
            assert file is not None, member
            return json.load(file)


@dataclass(frozen=True)
class Style:
    """One design house's set, and the words that name its look in captions."""

    name: str
    package: Package
    phrase: str  # the look in plain language, as it follows a subject: "in bold ink"
    description: str
    license: str
    credit: str


def _iconify(name: str, version: str, integrity: str) -> Package:
    return Package(f"@iconify-json/{name}", version, f"sha512-{integrity}==")


STYLES: tuple[Style, ...] = (
    Style(
        "noto",
        _iconify(
            "noto",
            "1.2.9",
            "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw",
        ),
        "in soft shading",
        "softly shaded, rounded volumes",
        "Apache-2.0",
        "Noto Emoji, Google",
    ),
    Style(
        "noto_v1",
        _iconify(
            "noto-v1",
            "1.2.5",
            "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA",
        ),
        "as a blob",
        "flat gumdrop blobs",
        "Apache-2.0",
        "Noto Emoji (2016), Google",
    ),
    Style(
        "twemoji",
        _iconify(
            "twemoji",
            "1.2.5",
            "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw",
        ),
        "in flat color",
        "plain flat colors without outlines",
        "CC-BY-4.0",
        "Twemoji, Twitter, Inc. and other contributors",
    ),
    Style(
        "fluent_flat",
        _iconify(
            "fluent-emoji-flat",
            "1.2.6",
            "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw",
        ),
        "in geometric shapes",
        "geometric flat shapes in saturated colors",
        "MIT",
        "Fluent Emoji, Microsoft Corporation",
    ),
    Style(
        "fluent_high_contrast",
        _iconify(
            "fluent-emoji-high-contrast",
            "1.2.6",
            "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w",
        ),
        "in bold ink",
        "bold black ink, cut out like a stencil",
        "MIT",
        "Fluent Emoji, Microsoft Corporation",
    ),
    Style(
        "openmoji",
        _iconify(
            "openmoji",
            "1.2.29",
            "vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ",
        ),
        "as a comic outline",
        "an even black outline filled with flat color",
        "CC-BY-SA-4.0",
        "OpenMoji, HfG Schwäbisch Gmünd",
    ),
    Style(
        "fxemoji",
        _iconify(
            "fxemoji",
            "1.2.2",
            "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ",
        ),
        "in muted paper",
        "muted colors, like cut paper",
        "Apache-2.0",
        "FxEmojis, Mozilla Foundation",
    ),
    Style(
        "emojione",
        _iconify(
            "emojione",
            "1.2.3",
            "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg",
        ),
        "as a bright cartoon",
        "a bright modern cartoon",
        "CC-BY-4.0",
        "EmojiTwo / EmojiOne 2, EmojiOne and EmojiTwo contributors",
    ),
    Style(
        "emojione_v1",
        _iconify(
            "emojione-v1",
            "1.2.3",
            "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww",
        ),
        "as a glossy sticker",
        "an early, glossy cartoon with gradients",
        "CC-BY-SA-4.0",
        "EmojiOne 1, Emoji One",
    ),
    Style(
        "emojione_monotone",
        _iconify(
            "emojione-monotone",
            "1.2.1",
            "cZSNcPsuiAD6HCzCh/2dYKGh3pNI0jJlxBxQWfC33cQsPtqYZqulGBvlkThXYNvDl8VxgVHT9u+izyX/yeEIkA",
        ),
        "as a silhouette",
        "a one-color silhouette",
        "CC-BY-4.0",
        "EmojiOne monotone, Emoji One",
    ),
)

NAMES = Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)


def style_names() -> tuple[str, ...]:
    """The styles in their fixed order: a style's number is its place here."""
    return tuple(style.name for style in STYLES)
