"""Prompts on Hydra's command line: quoted for it where its grammar would not take them.

Takes overrides as they were typed (or as `hydra.sweeper.params` has them), returns overrides that
Hydra reads as they were meant. What Hydra can read stays untouched, with one exception:
`subject={colour: red|blue}`, which it would read as keys and values. What stays ambiguous is an
error with the quoted form ready to paste.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from promptlab.configs.quoting import join_command, quote, quote_override
from promptlab.configs.settings import RESERVED_KEYS, TEXT_KEYS, keys_of
from promptlab.configs.written import is_rewritten
from promptlab.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

# In these a bracket opens a structured value: a slip in one must not become a text.
_STRUCTURED_KEYS = (RESERVED_KEYS - {*keys_of("text")}) | {"hydra"}
_TEXT_KEYS = frozenset(f"{key}.pattern" for key in keys_of("pattern"))
_OVERRIDE = re.compile(r"(?P<key>\+{0,2}[^=\s{}\[\]'\"]+)=(?P<value>.*)", re.DOTALL)
_TYPED = re.compile(
    r"[+-]?([\d_]+(\.[\d_]*)?|\.[\d_]+)(e[+-]?\d+)?|true|false|[+-]?(nan|inf)", re.IGNORECASE
)
_ROOT_KEY = re.compile(r"([^\W\d][\w-]*|\d+\.\w+)=")  # 3.cfg: an input of a workflow's node
_FUNCTION = re.compile(
    r"(choice|range|interval|glob|sort|shuffle|tag|extend_list|str|int|float|bool|json_str)\s*\("
)
_OPEN, _CLOSE = "([{", ")]}"


class UnreadableError(ConfigError):
    """An argument that has to be written otherwise, with the forms to write instead."""

    def __init__(self, problem: str, **forms: str) -> None:
        super().__init__(f"{problem} {_list_forms(forms, quote_override)}")
        self.problem = problem
        self.forms = forms  # what a form is for, as words joined by _ → the override

    def within(self, arguments: Sequence[str], place: int) -> ConfigError:
        """Return the error with the user's whole command in each form."""

        def command(form: str) -> str:
            words = [*arguments[:place], form, *arguments[place + 1 :]]
            return join_command(["promptlab", "sweep", *words])

        return ConfigError(f"{self.problem} {_list_forms(self.forms, command)}")


def _list_forms(forms: Mapping[str, str], show: Callable[[str], str]) -> str:
    listed = "; ".join(f"{use.replace('_', ' ')}: {show(form)}" for use, form in forms.items())
    return listed[:1].upper() + listed[1:]


def prepare_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command's arguments with texts quoted for Hydra; flags pass as they are.

    Raises ConfigError for what is ambiguous, with the whole command to type instead.
    """
    is_multirun = any(
        argument in ("-m", "--multirun") or argument.lstrip("+").startswith(("sweeps=", "hydra."))
        for argument in arguments
    )
    prepared = []
    for place, argument in enumerate(arguments):
        try:
            prepared.append(prepare_override(argument))
        except UnreadableError as error:
            raise error.within(arguments, place) from None
        if not is_multirun:
            _check_single(arguments, place, prepared[-1])
    return prepared


def overrides_last(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with all flags first: Hydra's parser takes overrides in one piece."""
    from hydra._internal.utils import get_args_parser

    overrides = get_args_parser().parse_known_intermixed_args(list(arguments))[0].overrides
    flags = list(arguments)
    for override in overrides:
        flags.remove(override)
    return [*flags, *overrides]


def open_slots(overrides: Sequence[str], loader: ConfigLoader) -> list[str]:
    """Let any root key that is neither promptlab's own nor a group be set, whoever reads it.

    A slot is a template's and a parameter a model's, and both may vary from job to job. `++` sets
    a key whether a config names it or not; one that nothing in a job asks for is refused by the
    plan.
    """
    search_path = [o for o in overrides if o.lstrip("+").startswith("hydra.searchpath=")]

    @cache
    def is_group(key: str) -> bool:
        return bool(loader.get_group_options(key, None, "promptlab", search_path))

    return [
        f"++{override}"
        if (match := _ROOT_KEY.match(override))
        and match[1] not in RESERVED_KEYS
        and not is_group(match[1])
        else override
        for override in overrides
    ]


def prepare_override(override: str) -> str:
    """Return one override as Hydra has to get it; raises UnreadableError with the form to type."""
    match = _OVERRIDE.fullmatch(override)
    if match is None or override.startswith("-"):
        return override
    key, value = match["key"], match["value"]
    name = key.lstrip("+")
    root = re.split(r"[.@/]", name)[0]
    is_prompt = root not in _STRUCTURED_KEYS or name in _TEXT_KEYS
    is_text = name in TEXT_KEYS or (is_prompt and name == root)
    if is_readable(override):
        is_choice = value.lstrip().startswith("{") and "|" in value and len(_split(value)) == 1
        if is_prompt and is_choice:
            return f"{key}={_quote(value.strip())}"
        return _keep_written(key, value, name in TEXT_KEYS) if is_text else override
    if _FUNCTION.match(value):
        raise UnreadableError(
            f"Hydra cannot read {override}: quote each text inside the function.",
            in_a_shell=f"{key}={_quote_arguments(value)}",
        )
    if not is_prompt and value.lstrip()[:1] in ("[", "{"):
        _explain_structured(key, value)
        return override
    if value.startswith("[") and value.rstrip().endswith("]"):
        items = ",".join(_quote(_plain(item)) for item in _split(value.strip()[1:-1]))
        raise UnreadableError(
            f"Hydra cannot read {override}.",
            for_a_list_of_texts=f"{key}=[{items}]",
            for_one_text=f"{key}={_quote(value)}",
        )
    parts = [
        part if part and is_readable(f"{key}={part}") else _quote(_plain(part))
        for part in _split(value)
    ]
    return f"{key}={','.join(parts)}"


def _keep_written(key: str, value: str, is_never_number: bool) -> str:
    """Return the override with texts quoted that Hydra would read as numbers: 1.50, TRUE, nan.

    What may be a parameter stays a number where it is written as one: 1.5, true.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    parts = _split(value)
    for place, part in enumerate(parts):
        if not _TYPED.fullmatch(part):  # parsing ten thousand prompts would take seconds
            continue
        read = parser.parse_override(f"x={part}").value()
        if is_rewritten(part, read) or (is_never_number and not isinstance(read, str)):
            parts[place] = _quote(part)
    return f"{key}={value if parts == _split(value) else ','.join(parts)}"


def _quote(typed: str) -> str:
    """Return a text in Hydra's quotes as it was typed: `${…}` still reads another key."""
    return quote(typed, keeps_interpolations=True)


def is_readable(override: str) -> bool:
    """Tell whether Hydra's grammar has the override."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _explain_structured(key: str, value: str) -> None:
    """Raise with every text inside lists and mappings quoted, if that makes it readable."""
    scalar = re.compile(r"(?<=[\[,{:])\s*([^\[\]{},:'\"]+?)\s*(?=[\]},])")
    quoted = scalar.sub(
        lambda m: m[0] if is_readable(f"{key}={m[1]}") else m[0].replace(m[1], _quote(m[1])), value
    )
    if quoted != value and is_readable(f"{key}={quoted}"):
        raise UnreadableError(
            f"Hydra cannot read {key}={value}: texts with characters of its grammar need quotes.",
            in_a_shell=f"{key}={quoted}",
        )


def _check_single(arguments: Sequence[str], place: int, prepared: str) -> None:
    """Refuse a value with commas where no -m asks for a sweep: both meanings, ready to paste."""
    argument = arguments[place]
    match = _OVERRIDE.fullmatch(argument)
    if match is None or argument.startswith("-") or not _is_simple_sweep(prepared):
        return
    quoted = f"{match['key']}={_quote(match['value'])}"
    one_text = [*arguments[:place], quoted, *arguments[place + 1 :]]
    raise ConfigError(
        f"{argument}: a comma separates values, and several values make a sweep. To sweep them: "
        f"{join_command(['promptlab', 'sweep', '-m', *arguments])}; for one text with a comma: "
        f"{join_command(['promptlab', 'sweep', *one_text])}"
    )


def _is_simple_sweep(argument: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep
    from hydra.errors import HydraException

    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:  # not ours to explain: Hydra will say what is wrong
        return False
    return isinstance(value, ChoiceSweep) and value.simple_form


def _split(value: str) -> list[str]:
    """Return the parts between commas that stand outside quotes and brackets."""
    parts, start, depth, index = [], 0, 0, 0
    while index < len(value):
        character = value[index]
        if character == "\\":
            index += 2
            continue
        if character in "'\"" and not value[start:index].strip():
            # A quote opens a quoted part only at its beginning: it's is a word.
            end = _end_of_quotes(value, index)
            index = end if end is not None else index + 1
            continue
        if character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth = max(0, depth - 1)
        elif character == "," and depth == 0:
            parts.append(value[start:index].strip())
            start = index + 1
        index += 1
    return [*parts, value[start:].strip()]


def _end_of_quotes(value: str, start: int) -> int | None:
    """Return the place after the closing quote, None if there is none before a comma or the end."""
    match = re.compile(r"(['\"])(?:\\.|(?!\1).)*\1(?=\s*(?:,|$))", re.DOTALL).match(value, start)
    return match.end() if match else None


def _plain(part: str) -> str:
    r"""Return a part as it was meant: \, is how one types a comma inside a value."""
    return part.replace("\\,", ",")


def _unquoted(part: str) -> str:
    quoted = len(part) > 1 and part[0] in "'\"" and part[0] == part[-1]
    return part[1:-1].replace(f"\\{part[0]}", part[0]) if quoted else part


def _quote_arguments(call: str) -> str:
    name, _, inside = call.partition("(")
    arguments = inside.rstrip().removesuffix(")")
    return f"{name}({','.join(_quote(_unquoted(_plain(part))) for part in _split(arguments))})"
