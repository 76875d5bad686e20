"""docs/grammar.md says what is so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from promptlab.configs.overrides import prepare_arguments
from promptlab.planning.language import (
    Grid,
    GridOptions,
    JobPattern,
    Pattern,
    PatternError,
    Wildcards,
    parse_pattern,
)
from promptlab.planning.language.parse import ESCAPABLE

PAGE = (Path(__file__).parents[3] / "docs" / "grammar.md").read_text(encoding="utf-8")
PLAIN = PAGE.replace("\\|", "|")  # bars inside a table are escaped for Markdown

EXAMPLES = {
    "{red|green|blue}": ["red", "green", "blue"],
    "{colour: red|green}": ["red", "green"],
    "{|, oil on canvas}": ["", ", oil on canvas"],
    "{a {big|small} dog|a cat}": ["a big dog", "a small dog", "a cat"],
    "{2$$a|b|c}": ["a, b", "a, c", "b, c"],
    "{a|b}{a|b}": ["aa", "ab", "ba", "bb"],
    "a {|b} {|c}": ["a", "a c", "a b", "a b c"],
    "{a| |b}": ["a", "", "b"],
    "(red:1.2)": ["(red:1.2)"],
    "[a|b]": ["[a|b]"],
    "[a:b:0.5]": ["[a:b:0.5]"],
}


def points(pattern: str, folder: Path = Path("nowhere")) -> list[dict[str, str]]:
    wildcards = Wildcards.of_project(folder)
    grid = Grid([JobPattern(parse_pattern(pattern), {}, {})], GridOptions.parse(), wildcards)
    return [{"": point.prompt, **point.coordinates} for point in grid.points()]


@pytest.mark.parametrize(("pattern", "prompts"), EXAMPLES.items())
def test_an_example_of_the_page_makes_the_prompts_it_says(pattern, prompts):
    assert pattern in PLAIN
    assert [point[""] for point in points(pattern)] == prompts


def test_names_are_as_the_page_says():
    assert set(points("{red|green|blue}")[0]) == {"", "red_green_blue"}
    assert set(points("{a|b}{a|b}")[0]) == {"", "a_b", "a_b_2"}
    assert len(points("__animal__ chasing __animal__")) == len(points("__animal__"))
    hunter = points("{hunter: __animal__} chasing {prey: __animal__}")
    assert len(hunter) == len(points("__animal__")) ** 2
    assert set(hunter[0]) == {"", "hunter", "prey"}


def test_every_packaged_list_is_named(tmp_path):
    for name in Wildcards.of_project(tmp_path).list_names():
        assert f"`{name}`" in PAGE


def test_every_escape_is_named_and_works():
    (named,) = re.findall(r"\n\| `(\\\{ [^`]*)`, `\\` and a space", PAGE)
    assert set(named.replace("\\|", "|").replace("\\", "").split()) | {"\\"} == set(ESCAPABLE)
    for character in ESCAPABLE + " ":
        assert parse_pattern("\\" + character) == Pattern.literal(character)
    assert parse_pattern(r"\(") == Pattern.literal(r"\(")


@pytest.mark.parametrize("pattern", ["{0.5::a|b}", "${animal=__animal__}"])
def test_what_the_page_calls_an_error_is_one(pattern):
    with pytest.raises(PatternError):
        parse_pattern(pattern)


def test_the_commands_of_the_page_are_read_as_typed():
    commands = [
        line.strip() for line in PAGE.splitlines() if line.startswith("    promptlab sweep")
    ]
    assert len(commands) == 3
    for command in commands:
        arguments = shlex.split(command)[2:]
        assert prepare_arguments(arguments)


def test_the_language_imports_neither_hydra_nor_anything_heavy():
    heavy = ["hydra", "torch", "mlflow", "pandas", "pyarrow", "numpy", "yaml"]
    code = (
        f"import sys, promptlab.planning.language; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
