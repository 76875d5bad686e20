"""Axes of a prompt: their names, their values, and how many prompts they make."""

from __future__ import annotations

import math
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.planning.language import (
    Choice,
    Grid,
    GridOptions,
    JobPattern,
    Pattern,
    PatternError,
    Text,
    Wildcards,
    format_count,
    parse_pattern,
)
from promptlab.planning.language.bind import bind, derive_name
from promptlab.planning.language.bound import join
from promptlab.planning.language.syntax import Take
from tests.pace import costs_less

from .patterns import HOSTILE
from .test_parse import UNITS


def grid(text: str) -> Grid:
    return Grid([JobPattern(parse_pattern(text), {}, {})], GridOptions.parse(), Wildcards())


def points(text: str) -> list[tuple[str, dict[str, str]]]:
    made = grid(text)
    found = [(point.prompt, dict(point.coordinates)) for point in made.points()]
    assert made.count().num_points == len(found)
    return found


def prompts(text: str) -> list[str]:
    return [prompt for prompt, _ in points(text)]


def _number(pattern: Pattern, next_number: list[int]) -> Pattern:
    """Return the pattern with every named choice named apart."""
    items = []
    for item in pattern.items:
        if isinstance(item, Choice):
            alternatives = tuple(_number(a, next_number) for a in item.alternatives)
            name = None
            if item.name is not None or len(alternatives) == 1:
                next_number[0] += 1
                name = f"n{next_number[0]}"
            item = Choice(alternatives, name, item.take)
        items.append(item)
    return Pattern(tuple(items))


def _closed(
    inner: st.SearchStrategy[Pattern] | None, takes: st.SearchStrategy, size: int
) -> st.SearchStrategy[Pattern]:
    if inner is None:
        words = st.sampled_from(["a", "b", "cat"]).map(Text)
        return st.lists(words, max_size=1).map(lambda items: Pattern(tuple(items)))
    choices = st.builds(
        lambda patterns, name, take: Choice(
            tuple(patterns), name, take if take and take.maximum <= len(patterns) else None
        ),
        st.lists(inner, min_size=1, max_size=size),
        st.sampled_from([None, "x"]),
        takes,
    )
    return st.lists(choices, max_size=size).map(lambda items: Pattern(tuple(items)))


def closed(takes: st.SearchStrategy, size: int) -> st.SearchStrategy[Pattern]:
    """Patterns of choices within choices, each named choice of another name."""
    pattern = _closed(_closed(_closed(None, takes, size), takes, size), takes, size)
    return pattern.map(lambda p: _number(p, [0]))


TAKES = st.none() | st.sampled_from([Take(1, 1), Take(0, 2, " and "), Take(2, 2, "")])
CLOSED = closed(TAKES, 3)
# What is taken together may read like something else: "a, b" and "c" or "a" and "b, c".
CLOSED_WITHOUT_TAKES = closed(st.none(), 2)


def formula(pattern: Pattern) -> int:
    """Sums over alternatives of products over axes, as docs/grammar.md states it."""
    number = 1
    for item in pattern.items:
        if isinstance(item, Choice):
            counts = [formula(alternative) for alternative in item.alternatives]
            take = item.take or Take(1, 1)
            sizes = range(take.minimum, take.maximum + 1)
            number *= sum(math.prod(taken) for n in sizes for taken in combinations(counts, n))
    return number


def _unspaced(text: str) -> str:
    """Leave out spaces: how an empty alternative closes its gap is a test of its own."""
    return text.replace(" ", "")


def expansions(pattern: Pattern) -> list[str]:
    """Every text of a pattern, written down in the plainest way."""
    parts = []
    for item in pattern.items:
        if isinstance(item, Text):
            parts.append([item.text])
        if isinstance(item, Choice):
            take = item.take or Take(1, 1)
            sizes = range(take.minimum, take.maximum + 1)
            taken = [t for size in sizes for t in combinations(item.alternatives, size)]
            parts.append(
                [
                    take.joiner.join(texts)
                    for patterns in taken
                    for texts in product(*map(expansions, patterns))
                ]
            )
    return ["".join(texts) for texts in product(*parts)]


@given(CLOSED)
@settings(max_examples=120)
def test_the_number_of_prompts_equals_the_product_formula_and_what_expansion_yields(pattern):
    bound = bind(pattern, Wildcards())
    assert bound.num_prompts == formula(pattern)
    if bound.num_prompts <= 2_000:
        job = JobPattern(pattern, {}, {})
        found = list(Grid([job], GridOptions.parse(), Wildcards()).points())
        assert [_unspaced(p.prompt) for p in found] == list(map(_unspaced, expansions(pattern)))


@given(CLOSED_WITHOUT_TAKES)
@settings(max_examples=60)
def test_points_differ_in_their_coordinates(pattern):
    # Different alternatives of one text are one value: give each its own text first.
    numbers = iter(range(10_000))

    def distinct(p: Pattern) -> Pattern:
        if not p.items:
            return Pattern((Text(f"t{next(numbers)}"),))
        return Pattern(
            tuple(
                Choice(tuple(map(distinct, i.alternatives)), i.name, i.take)
                if isinstance(i, Choice)
                else Text(f"{i.text}{next(numbers)}")
                for i in p.items
                if isinstance(i, Choice | Text)
            )
        )

    job = JobPattern(distinct(pattern), {}, {})
    found = list(Grid([job], GridOptions.parse(), Wildcards()).points())
    assert len({tuple(point.coordinates.items()) for point in found}) == len(found)


@given(HOSTILE)
@settings(max_examples=120)
def test_any_pattern_is_counted_or_refused_with_the_documented_error(text):
    try:
        number = bind(parse_pattern(text), Wildcards()).num_prompts
    except PatternError:
        return
    assert number >= 1


@pytest.mark.parametrize(
    "text",
    [
        *(unit * (10_000 // len(unit)) for unit in UNITS),
        "{1-99$$" + "{a|b}|" * 1_600 + "c}",
        "{99$$" + "a|" * 4_900 + "c}",
        "".join(f"{{n{i}: a|b}}" for i in range(800)),
        "".join(f"{{n{i}: a|b}}{{n{i}}}" for i in range(500)),
        "{" + "|".join(f"{{n{i}: a|b}}" for i in range(800)) + "}",
        "".join(f"{{n{i}: {{n{i + 1}}}|a}}" for i in range(600)) + "{n600: b}",
        "{a|" * 23 + "b" + "}" * 23,
    ],
)
def test_no_text_of_10000_characters_takes_long_to_read_and_count(text):
    assert len(text) <= 10_000

    def read_and_count() -> None:
        try:
            bound = bind(parse_pattern(text), Wildcards())
            format_count(bound.num_prompts)
        except PatternError as error:
            str(error)

    assert costs_less(read_and_count, 15)  # a thousand turns of a loop a character are 10


def test_a_nameless_choice_is_an_axis_named_after_its_values():
    assert points("a {red|dark green} fox") == [
        ("a red fox", {"red_dark_green": "red"}),
        ("a dark green fox", {"red_dark_green": "dark green"}),
    ]


def test_two_equal_nameless_choices_are_two_axes():
    assert [c for _, c in points("{a|b}{a|b}")] == [
        {"a_b": first, "a_b_2": second} for first in "ab" for second in "ab"
    ]


def test_a_nameless_choice_never_takes_a_name_that_the_prompt_gives():
    assert points("{a|b} {a_b: x}")[0][1] == {"a_b_2": "a", "a_b": "x"}


def test_a_long_choice_is_named_after_its_first_values():
    assert derive_name(
        parse_pattern("{" + "|".join(["word"] * 50) + "}").items[0].alternatives
    ) == ("_".join(["word"] * 8))
    assert derive_name((Pattern(), Pattern.literal("!"))) == "choice"
    assert len(derive_name((Pattern.literal("x" * 200), Pattern()))) == 40
    assert derive_name((Pattern.literal("Dark GREEN"),)) == "dark_green"


def test_a_name_used_twice_is_one_axis_with_the_same_value_both_times():
    assert prompts("{colour: red|blue} fox, {colour} sky") == [
        "red fox, red sky",
        "blue fox, blue sky",
    ]
    assert prompts("{colour} sky, {colour: red|blue} fox") == [
        "red sky, red fox",
        "blue sky, blue fox",
    ]
    assert prompts("{c: a|b} {c: a|b}") == ["a a", "b b"]


def test_a_repeated_axis_inside_another_axis_stays_the_same():
    assert points("{subject: {c: red|blue} fox} on {c}") == [
        ("red fox on red", {"subject": "red fox", "c": "red"}),
        ("blue fox on blue", {"subject": "blue fox", "c": "blue"}),
    ]


def test_an_axis_held_only_by_a_repeated_one_is_not_listed_twice():
    assert prompts("{a: x {c: 1|2}|y} {a}") == ["x 1 x 1", "x 2 x 2", "y y"]
    assert prompts("{a: {b: x {c: 1|2}|y}|z} {a}") == ["x 1 x 1", "x 2 x 2", "y y", "z z"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{b: r|s}{a: {c}p|q}{c: x|y}",
            ["rxpx", "sxpx", "rqx", "sqx", "rypy", "sypy", "rqy", "sqy"],
        ),
        (
            "{c: x|y}{c}{d: p|q}{d}{f: {c}{d}|z}",
            ["xxppxp", "xxppz", "xxqqxq", "xxqqz", "yyppyp", "yyppz", "yyqqyq", "yyqqz"],
        ),
        (
            "{2$${c: 1|2} a|{c} b|z}",
            ["1 a, 1 b", "1 a, z", "1 b, z", "2 a, 2 b", "2 a, z", "2 b, z"],
        ),
        ("{c: x {d: 1|2}|y}{c} {d}", ["x 1x 1 1", "yy 1", "x 2x 2 2", "yy 2"]),
        ("{a: {c: 1|2} p} {b: {c} r}", ["1 p 1 r", "2 p 2 r"]),
        ("{a: {c: 1|2} p|q} {b: {c} r}", ["1 p 1 r", "q 1 r", "2 p 2 r", "q 2 r"]),
        ("{a: {c: 1|2}}{b: x|y}{d: {a}{b}}", ["1x1x", "1y1y", "2x2x", "2y2y"]),
    ],
)
def test_an_axis_has_one_value_wherever_it_stands_in_a_prompt(text, expected):
    assert prompts(text) == expected


def test_an_axis_inside_an_alternative_is_there_only_where_the_alternative_is():
    assert points("{size: big {c: red|blue}|small}") == [
        ("big red", {"size": "big red", "c": "red"}),
        ("big blue", {"size": "big blue", "c": "blue"}),
        ("small", {"size": "small"}),
    ]


def test_an_axis_in_several_alternatives_of_one_choice_does_not_multiply_the_others():
    assert prompts("{a {c: x|y}|the {c}|robot}") == ["a x", "a y", "the x", "the y", "robot"]


def test_a_nameless_choice_inside_an_alternative_is_part_of_its_value():
    assert points("{pet: {big|small} dog|cat}") == [
        ("big dog", {"pet": "big dog"}),
        ("small dog", {"pet": "small dog"}),
        ("cat", {"pet": "cat"}),
    ]


def test_taking_two_of_three_gives_unordered_pairs():
    assert prompts("{2$$a|b|c}") == ["a, b", "a, c", "b, c"]
    assert prompts("{0-2$$ & $$a|b}") == ["", "a", "b", "a & b"]
    assert prompts("{2$$a {x|y}|b}") == ["a x, b", "a y, b"]


def test_an_empty_alternative_takes_one_space_with_it():
    assert prompts("a {|red} fox {|asleep}") == [
        "a fox",
        "a fox asleep",
        "a red fox",
        "a red fox asleep",
    ]
    assert prompts("a{|n old} fox") == ["a fox", "an old fox"]
    assert join(["", " fox"]) == "fox"
    assert join(["a  b", "", ", c"]) == "a  b, c"
    assert join(["", "a ", " b"]) == "a  b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{c: a|b} {c: a|x}", "two meanings"),
        ("{c: a {c}|b}", "needs its own value: c → c"),
        ("{a: {b}} {b: {a}}", "needs its own value: a → b → a"),
        ("{c: a|b} {c: 1$$a|b}", "two meanings"),
        ("{3$$a|b}", "takes 3 of 2"),
        ("{nowhere}", "nothing fills"),
    ],
)
def test_what_cannot_be_bound_says_why(text, words):
    with pytest.raises(PatternError, match=words):
        _ = bind(parse_pattern(text), Wildcards()).num_prompts


def test_counts_are_printed_however_large_they_are():
    assert format_count(1_632) == "1,632"
    assert format_count(10**5000).startswith("about 10^")
