"""Wishes: what a client asks to be drawn, as the arguments of `promptlab sweep`.

Takes the fields of a form or a pasted command line; returns arguments that are known to be
harmless, and arguments as a line. Draws nothing and knows no rule of what is harmless.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from promptlab.configs.quoting import quote_override
from promptlab.configs.settings import RESERVED_KEYS
from promptlab.planning.language import Pattern
from promptlab.planning.redraw import hydra_value
from promptlab.planning.seeds import MAX_SEED, parse_seeds
from promptlab.serve.checks import GROUPS, WishRefusedError, check, check_size, seeds_text

FIELDS = (
    *("line", "prompt", "subject", "template", "style", "model", "seeds", "params", "name"),
    *("images", "parents"),
)
_SINGULAR = {f"{key}s": key for key in ("prompt", "subject", "template", "style", "model")}
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ESCAPED = re.compile(r"(?<![^\s=])\$'((?:[^'\\]|\\.)*)'")


def argv_of(wish: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arguments of a wish, checked; raises WishRefusedError.

    A wish is {"line": a command line as pasted} or fields: `subject` (a pattern of the sweep
    language) or `prompt` (the whole prompt, as written), `style`, `template`, `model`, each one or
    a list, also in the plural; `seeds`; `params` (key → value or list); `name`; `images`
    (image_ids that it varies) or `parents` (image_ids that it is drawn from).
    """
    check_size(json.dumps(wish, ensure_ascii=False))
    wish = {_SINGULAR.get(key, key): value for key, value in wish.items()}
    unknown = [key for key in wish if key not in FIELDS]
    if unknown:
        raise WishRefusedError(
            f"Unknown field {unknown[0][:100]!r}. Expected some of {', '.join(FIELDS)}."
        )
    if "line" in wish:
        if len(wish) > 1:
            raise WishRefusedError("Expected either a line or fields, got both.")
        return check(_words(_text("line", wish["line"])))
    values: dict[str, list[Any]] = {}
    if "prompt" in wish:
        if "subject" in wish or "template" in wish:
            raise WishRefusedError("A whole prompt has neither a subject nor a template.")
        prompts = _several("prompt", wish["prompt"])
        values["subject"] = [str(Pattern.literal(_text("prompt", text))) for text in prompts]
        values["template"] = ["plain"]
        values["style"] = ["none"]
    for key in ("subject", *GROUPS):
        if key in wish:
            values[key] = [_text(key, value) for value in _several(key, wish[key])]
    params = wish.get("params", {})
    if not isinstance(params, Mapping):
        raise WishRefusedError("params: expected keys and values.")
    for key, given in params.items():
        if key in RESERVED_KEYS or not _PARAMETER.fullmatch(key):
            raise WishRefusedError(
                f"params: {key[:100]!r} is neither a parameter of a model nor a slot."
            )
        values[key] = _several(key, given)
    if "parents" in wish:
        values["parent"] = [_text("parents", one) for one in _several("parents", wish["parents"])]
    arguments = [f"{key}={','.join(map(hydra_value, many))}" for key, many in values.items()]
    if "seeds" in wish:
        arguments.append(f"seeds={seeds_text(wish['seeds'])}")
    if "name" in wish:
        arguments.append(f"name={hydra_value(_text('name', wish['name']))}")
    if "images" in wish:
        ids = [_text("images", one) for one in _several("images", wish["images"])]
        arguments.insert(0, f"--from-images={','.join(ids)}")
    elif any(len(many) > 1 for many in values.values()):
        arguments.insert(0, "-m")
    return check(arguments)


def line_of(argv: Sequence[str]) -> str:
    """Return arguments as a line for a shell."""
    return " ".join(["promptlab", "sweep", *map(quote_override, argv)])


def with_other_seeds(argv: Sequence[str], seeds: Any = None) -> tuple[str, ...]:
    """Return the arguments with other seeds: those given, or as many again that come next."""
    own = [value for key, _, value in (one.partition("=") for one in argv) if key == "seeds"]
    kept = [one for one in argv if not one.startswith("seeds=")]
    if seeds is None:
        before = parse_seeds(_plain_seeds(own[-1])) if own else (0,)
        first = min(max(before) + 1, MAX_SEED - len(before) + 1)
        seeds = f"{first}-{first + len(before) - 1}"
    return check([*kept, f"seeds={seeds_text(seeds)}"])


def _words(line: str) -> list[str]:
    """Return the arguments of a pasted line."""
    try:
        words = shlex.split(_ESCAPED.sub(_unescaped, line.replace("\\\n", "")))
    except ValueError as error:
        raise WishRefusedError(f"The line is no command of a shell: {error}.") from None
    for word in ("promptlab", "sweep"):
        if words[:1] == [word]:
            words = words[1:]
    return words


def _unescaped(match: re.Match[str]) -> str:
    """Return what bash reads in $'…', as line_of writes it, in plain quotes."""

    def character(escape: re.Match[str]) -> str:
        return chr(int(escape[1], 16)) if escape[1] else escape[2]

    content = match[1].encode("utf-8").decode("latin-1")
    content = re.sub(r"\\x([0-9a-f]{2})|\\(.)", character, content)
    return shlex.quote(content.encode("latin-1").decode("utf-8", "replace"))


def _several(key: str, value: Any) -> list[Any]:
    """Return a value or a list of values as a list."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values or any(isinstance(one, list | tuple | Mapping) for one in values):
        raise WishRefusedError(f"{key}: expected a value or a list of values.")
    return values


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise WishRefusedError(f"{key}: expected a text.")
    return value


def _plain_seeds(written: str) -> Any:
    bare = written.strip("'\"")
    if bare.startswith("["):
        return bare.strip("[]").split(",")
    return int(bare) if bare.isdecimal() else bare
