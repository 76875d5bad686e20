"""Hydra's errors in promptlab's words: what was expected, what came, what to do.

Takes Hydra's exceptions, raises promptlab's. Knows which keys and options there are.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.configs.vocabulary import list_options
from promptlab.errors import ConfigError

if TYPE_CHECKING:
    from yaml import MarkedYAMLError

MAX_LISTED = 12  # options named in a message


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise about a config into a ConfigError."""
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    try:
        yield
    except MarkedYAMLError as error:
        raise ConfigError(explain_yaml(error)) from error
    except MissingConfigException as error:
        raise ConfigError(explain_missing(error.missing_cfg_file or "", str(error))) from error
    except HydraException as error:
        raise ConfigError(explain_composition(error)) from error
    except OmegaConfBaseException as error:  # some of these are ValueErrors too
        raise ConfigError(explain_config(error)) from error
    except ValueError as error:
        if not str(error).startswith("Config group override"):
            raise
        raise ConfigError(
            f"A group takes the name of an option: {error} `style=none` draws without a style."
        ) from error


def explain_missing(path: str, message: str) -> str:
    """Explain an option that no conf/ has: close names first, then the known ones."""
    group, _, option = path.removesuffix(".yaml").partition("/")
    known = list_options(group)
    if not option or not known:
        return message
    kind = "named sweep" if group == "sweeps" else group
    close = close_names(option, known)
    text = f"Unknown {kind} {option!r}."
    if close:
        text += f" Did you mean {' or '.join(close)}?"
    shown = ", ".join(known[:MAX_LISTED])
    more = f", … {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
    lister = {"style": "promptlab styles", "template": "promptlab styles"}.get(
        group, "promptlab models" if group == "model" else ""
    )
    return f"{text} Known: {shown}{more}." + (f" `{lister}` lists them." if lister else "")


def explain_yaml(error: MarkedYAMLError) -> str:
    """Explain a config file that is not YAML: the place, and the line with its value quoted."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "cannot be read"
    if mark is None:
        return f"A config file is not valid YAML: {problem}."
    text = (
        f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: not valid YAML: {problem}."
    )
    try:
        line = Path(mark.name).read_text(encoding="utf-8").splitlines()[mark.line]
    except (OSError, ValueError, IndexError):
        return text
    match = re.fullmatch(r"(?P<head>\s*(?:- )?(?:[\w./-]+:\s+)?)(?P<value>[^\s#'\"].*?)\s*", line)
    if match is None:
        return text
    quoted = json.dumps(match["value"], ensure_ascii=False)
    return f"{text}\nA prompt with such characters needs quotes: {match['head'].strip()} {quoted}"


def explain_composition(error: Exception) -> str:
    """Explain an override that Hydra refused."""
    message = str(error).strip()
    match = re.match(r"Could not override '([^']+)'", message)
    if match:
        return (
            f"Unknown key {match[1]!r}. `promptlab sweep --cfg job` lists the keys; to add one "
            f"that no config names, such as an argument of your own model, write +{match[1]}=…"
        )
    cause = error.__cause__
    if cause is not None and not message:
        message = _first_line(cause)
    elif cause is not None:
        message += f" ({_first_line(cause)})"
    return message


def explain_config(error: Exception) -> str:
    """Explain what OmegaConf could not resolve."""
    hint = ""
    if "nterpolation" in type(error).__name__ + str(error):
        hint = " ${…} reads another key of the config; for the characters themselves write \\${…}."
    return f"The config cannot be read: {_first_line(error)}.{hint}"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that look like a misspelt one."""
    by_end = {option.rsplit("/", 1)[-1]: option for option in known}
    options = {**by_end, **{option: option for option in by_end.values()}}
    found = difflib.get_close_matches(name.lower(), options, n=3, cutoff=0.6)
    return list(dict.fromkeys(options[match] for match in found))


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
