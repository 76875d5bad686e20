"""Values as they were written: what YAML and Hydra read as numbers is a prompt's text all the same.

Takes YAML texts and typed values, returns texts. `16:9` is 969 to YAML 1.1, `010` is 8, `1.50` is
1.5: a prompt keeps the characters. Knows neither keys nor prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

Path = tuple[str | int, ...]  # keys and places from the top of a document


def is_rewritten(written: str, value: object) -> bool:
    """Tell whether a text was read as a number or truth value that is written otherwise.

    `1.50`, `TRUE`, `1_000` and `nan` are; `1.5`, `true` and `1000` print as they are written.
    """
    if isinstance(value, bool):
        return written != str(value).lower()
    if not isinstance(value, int | float):
        return False
    return not math.isfinite(value) or written != str(value)


def load_texts(text: str) -> Any:
    """Return a YAML document whose scalars are texts; raises yaml.YAMLError, also for a key twice.

    Only an empty scalar and `~` are None.
    """
    import yaml

    return yaml.load(text, Loader=_text_loader())


@cache
def _text_loader() -> Any:
    import yaml

    safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class TextLoader(safe):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} appears twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    for kind in ("int", "float", "bool", "timestamp", "value"):
        TextLoader.add_constructor(f"tag:yaml.org,2002:{kind}", safe.construct_yaml_str)
    TextLoader.add_constructor(
        "tag:yaml.org,2002:null",
        lambda loader, node: None if node.value in ("", "~") else node.value,
    )
    return TextLoader


def written_scalars(text: str) -> Iterator[tuple[Path, str]]:
    """Yield every scalar of a YAML document that is not null, with its place, as it is written."""
    import yaml

    def visit(path: Path, node: yaml.Node) -> Iterator[tuple[Path, str]]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from visit((*path, str(key.value)), value)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield from visit((*path, index), value)
        elif node.tag != "tag:yaml.org,2002:null":
            yield path, str(node.value)

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        yield from visit((), root)
