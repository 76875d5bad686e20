"""One name for one thing: which icon of which set shows which subject.

Takes the sets' icon names and the Unicode names table; returns subjects with their captions and
one icon per style. Does not know about pixels. Sets disagree about names, so everything is joined
on the Unicode code point: by the set's own `chars.json` where it has one, else by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from training.sources import NAMES, STYLES, Style

MIN_STYLES = 4
SKIN_TONES = {0x1F3FB, 0x1F3FC, 0x1F3FD, 0x1F3FE, 0x1F3FF}
IGNORED_CODE_POINTS = {0xFE0F, 0xFE0E}
COMPONENT_GROUP, FLAG_GROUP = 2, 9

# Icons that carry a subject's name but show something else (found by eye).
WRONG_ICONS = {("fxemoji", "apple")}

# Names that people type, where Unicode's differs.
EVERYDAY_NAMES = {
    "dog face": "dog",
    "cat face": "cat",
    "mouse face": "mouse",
    "rabbit face": "rabbit",
    "tiger face": "tiger",
    "horse face": "horse",
    "cow face": "cow",
    "pig face": "pig",
    "monkey face": "monkey",
    "dragon face": "dragon",
    "dog": "whole dog",
    "cat": "whole cat",
    "mouse": "whole mouse",
    "rabbit": "whole rabbit",
    "tiger": "whole tiger",
    "horse": "whole horse",
    "cow": "whole cow",
    "pig": "whole pig",
    "monkey": "whole monkey",
    "dragon": "whole dragon",
}


@dataclass
class Subject:
    """One thing that the sets draw."""

    name: str
    code_points: tuple[int, ...]
    aliases: tuple[str, ...] = ()  # other captions that mean this subject and no other
    icons: dict[str, str] = field(default_factory=dict)  # style name -> SVG document


def squash(name: str) -> str:
    """Reduce a name to its letters and digits, which is all that the sets agree on."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower().replace("&", "and"))


def caption_words(name: str) -> str:
    """A name as caption text: lower case, words separated by one blank."""
    plain = unicodedata.normalize("NFKD", name.replace("’", "")).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", plain.lower()))


def read_code_points(hexcode: str) -> tuple[int, ...]:
    """Parse `1f3f3-fe0f-200d-1f308` without presentation selectors."""
    points = (int(part, 16) for part in re.split(r"[-\s]+", hexcode))
    return tuple(point for point in points if point not in IGNORED_CODE_POINTS)


def svg_document(icon: Mapping[str, Any], defaults: Mapping[str, Any], flip: bool = False) -> str:
    """Wrap an Iconify body as an SVG file."""
    box = [
        icon.get(key, defaults.get(key, 0 if key in ("left", "top") else 16))
        for key in ("left", "top", "width", "height")
    ]
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({2 * box[0] + box[2]} 0) scale(-1 1)">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[0]} {box[1]} {box[2]} {box[3]}">{body}</svg>'
    )


def _is_wanted(entry: Mapping[str, Any]) -> bool:
    """Leave out what no one would sweep, or what no one could tell apart at this size.

    Flags, skin tones and keycaps; families and couples; the man and woman variants of a person who
    exists without; people looking the other way; and the twenty-four clock faces.
    """
    label, group = entry["label"], entry.get("group")
    if group in (None, COMPONENT_GROUP, FLAG_GROUP):
        return False
    points = read_code_points(entry["hexcode"])
    if SKIN_TONES & set(points):
        return False
    is_gendered = 0x200D in points and bool({0x2640, 0x2642} & set(points))
    is_gendered |= 0x200D in points and points[0] in (0x1F468, 0x1F469)
    unwanted = r"^family|^couple|^kiss:|^keycap|^Japanese .* button|facing right|o.clock$|-thirty$"
    return not is_gendered and not re.search(unwanted, label)


def read_names(table: Iterable[Mapping[str, Any]]) -> dict[tuple[int, ...], Subject]:
    """Build subjects, still without icons, from the Unicode names table."""
    entries = [entry for entry in table if _is_wanted(entry)]
    tag_counts = Counter(tag for entry in entries for tag in entry.get("tags", ()))
    labels = {caption_words(entry["label"]) for entry in entries}
    subjects = {}
    for entry in entries:
        label = caption_words(entry["label"])
        name = EVERYDAY_NAMES.get(label, label)
        own_tags = {
            caption_words(tag)
            for tag in entry.get("tags", ())
            if tag_counts[tag] == 1 and 3 <= len(tag) <= 20
        }
        aliases = sorted((own_tags | {label}) - (labels - {label}) - {name, ""})
        if label in EVERYDAY_NAMES and label + " face" in EVERYDAY_NAMES:
            aliases.remove(label)  # "dog" is the dog's face, as everyone draws it
        points = read_code_points(entry["hexcode"])
        subjects[points] = Subject(name, points, tuple(aliases))
    return subjects


def _name_index(table: Iterable[Mapping[str, Any]], documents: Mapping[str, Any]) -> dict[str, Any]:
    """Map squashed names to code points, the most trustworthy source of a name first."""
    index: dict[str, tuple[int, ...]] = {}
    entries = list(table)
    for entry in entries:
        index.setdefault(squash(entry["label"]), read_code_points(entry["hexcode"]))
    for document in documents.values():
        for hexcode, name in document["chars"].items():
            index.setdefault(squash(name), read_code_points(hexcode))
    for entry in entries:
        points = read_code_points(entry["hexcode"])
        if len(points) == 1:
            index.setdefault(squash(unicodedata.name(chr(points[0]), "")), points)
    for document in documents.values():
        for alias, target in document["icons"].get("aliases", {}).items():
            known = index.get(squash(alias)) or index.get(squash(target["parent"]))
            if known:
                index.setdefault(squash(alias), known)
                index.setdefault(squash(target["parent"]), known)
    index.pop("", None)
    return index


def _read_style(style: Style) -> dict[str, Any]:
    return {
        "icons": style.package.read_json("icons.json"),
        "chars": style.package.read_json("chars.json") or {},
    }


def load_subjects() -> list[Subject]:
    """Read all pinned packages and return the subjects drawn in enough styles, by name."""
    return unify(
        NAMES.read_json("en/data.json"),
        NAMES.read_json("en/shortcodes/cldr.json"),
        {style.name: _read_style(style) for style in STYLES},
    )


def unify(
    table: list[Mapping[str, Any]],
    shortcodes: Mapping[str, str | list[str]],
    documents: Mapping[str, Any],
    min_styles: int = MIN_STYLES,
) -> list[Subject]:
    """Join every set's icons on code points, and keep subjects drawn in `min_styles` or more."""
    subjects = read_names(table)
    index = _name_index(table, documents)
    for hexcode, codes in shortcodes.items():
        for code in [codes] if isinstance(codes, str) else codes:
            index.setdefault(squash(code), read_code_points(hexcode))
    for style, document in documents.items():
        icons = document["icons"]
        points_from_name = {
            name: read_code_points(hexcode) for hexcode, name in document["chars"].items()
        }
        aliases = icons.get("aliases", {})
        for name in [*icons["icons"], *aliases]:
            points = points_from_name.get(name) or index.get(squash(name))
            subject = subjects.get(points) if points else None
            if subject is None or style in subject.icons or (style, name) in WRONG_ICONS:
                continue
            parent = aliases.get(name, {}).get("parent", name)
            if parent in icons["icons"]:
                flip = bool(aliases.get(name, {}).get("hFlip"))
                subject.icons[style] = svg_document(icons["icons"][parent], icons, flip)
    kept = [subject for subject in subjects.values() if len(subject.icons) >= min_styles]
    return sorted(kept, key=lambda subject: subject.name)
