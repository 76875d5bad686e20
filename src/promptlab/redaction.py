"""Credentials are taken out of everything that is written down: one rule for all of promptlab.

Takes texts and plain data, returns them with each credential replaced by MARK. What counts as one:
the password of a URL, a query value or a config key with a telling name, and the value of an
environment variable with such a name, wherever it stands. Knows no file and no server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MARK = "***"  # stands for a credential that was left out
MIN_SECRET_LENGTH = 6  # characters; shorter values of the environment also occur as plain words

_WORDS = (
    "api_?key|access_?key(?:_?id)?|secret(?:_?access)?(?:_?key)?|private_?key|passw(?:or)?d|"
    "passphrase|(?:auth|access|session|security|bearer|refresh)?_?token|credentials?|authorization|"
    "signature"
)
_NAME = re.compile(rf"(?:^|[._@/-])(?:\w*_)?(?:{_WORDS})$", re.IGNORECASE)
_ENVIRONMENT_NAME = re.compile(
    r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$", re.IGNORECASE
)
_URL_PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s:/@?#'\"]*):[^\s/'\"]+@")
_QUERY_VALUE = re.compile(rf"([?&;](?:[\w.-]*[_.-])?(?:{_WORDS}|sig)=)[^\s&;#'\"]+", re.IGNORECASE)
_OVERRIDE = re.compile(r"([+~]*[\w.@/-]+)=(.+)", re.DOTALL)  # a whole argument: key=value


_KEPT_OUT: set[str] = set()  # credentials that no name tells


def keep_out(secret: str) -> None:
    """Leave a credential out from now on, whatever its environment variable is called."""
    if len(secret) >= MIN_SECRET_LENGTH:
        _KEPT_OUT.add(secret)


def redact(value: Any) -> Any:
    """Return plain data without credentials; a value is one by its key or by its own text."""
    return _redact(value, _environment_secrets())


def redact_text(text: str) -> str:
    """Return a text without credentials; an argument `key=value` is judged by its key too."""
    return _redact_text(text, _environment_secrets())


def is_secret_name(name: str) -> bool:
    """Tell whether a config key, such as `model.api_key`, holds a credential."""
    return _NAME.search(name) is not None


def lacks_secret(argument: str) -> bool:
    """Tell whether an argument `key=value` was recorded without its credential."""
    return f":{MARK}@" in argument or (f"={MARK}" in argument and redact_text(argument) == argument)


def _redact(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return _redact_text(value, secrets)
    if isinstance(value, Mapping):
        return {
            key: MARK if _is_secret(str(key), item) else _redact(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redact(item, secrets) for item in value]
    return value


def _is_secret(key: str, item: Any) -> bool:
    """Tell whether an entry is a credential; YAML reads one of digits alone as a number."""
    if not item or isinstance(item, bool) or not isinstance(item, str | int | float):
        return False
    is_number_of_token = not isinstance(item, str) and key.lower().endswith("token")
    return is_secret_name(key) and not is_number_of_token  # such as end_token: 50256


def _redact_text(text: str, secrets: list[str]) -> str:
    argument = _OVERRIDE.fullmatch(text)
    if argument is not None and is_secret_name(argument[1].lstrip("+~")):
        return f"{argument[1]}={MARK}"
    for secret in secrets:
        text = text.replace(secret, MARK)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1:{MARK}@", text)
    return _QUERY_VALUE.sub(rf"\1{MARK}", text) if "=" in text else text


def _environment_secrets() -> list[str]:
    """Return the credentials of this process's environment, the longest first."""
    values = {value for name, value in os.environ.items() if _ENVIRONMENT_NAME.search(name)}
    known = {value for value in values if len(value) >= MIN_SECRET_LENGTH} | _KEPT_OUT
    return sorted(known, key=len)[::-1]
