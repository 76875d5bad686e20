"""Reading and printing prompt patterns."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promptlab.planning.language import (
    Choice,
    Pattern,
    PatternError,
    Slot,
    Text,
    Wildcard,
    parse_pattern,
)
from promptlab.planning.language.syntax import Take
from tests.pace import costs_less

from .patterns import HOSTILE, PATTERNS

UNITS = [  # of the long texts that must not take long
    *["{", "}", "{a|", "{a|b}", "{a:", "{a", "{a ", "{a }", "{ ", "{||", "{2$$", "{2$$a|b}"],
    *["__", "__a", "__a__", "___", "a_", "\\", "\\{", "{\\ ", "|", "||", "$", "${", "$$", "{1$$a$"],
    *[" ", "\t", "a", "é", "🦊", "1", "0::", "-", "{a|{b|c}}", "{x:{y:{z:a|b}}}"],
    "{" * 24 + "a|b" + "}" * 24,
]


def texts(*values: str) -> tuple[Pattern, ...]:
    return tuple(Pattern.literal(value) for value in values)


def only_item(text: str):
    (item,) = parse_pattern(text).items
    return item


def error_of(text: str) -> PatternError | None:
    try:
        parse_pattern(text)
    except PatternError as error:
        return error
    return None


@pytest.mark.parametrize("text", ["a: b", " b: c", " two words: c"])
def test_a_wildcard_and_a_colon_behind_it_are_no_axis_when_they_are_read_again(text):
    first = Pattern((Wildcard("a"), Text(text)))
    pattern = Pattern((Choice((first, Pattern((Text("x"),)))),))
    assert parse_pattern(str(pattern)) == pattern


@example(Pattern((Text("costs $"), Slot("a"))))
@given(PATTERNS)
@settings(max_examples=100)
def test_a_pattern_printed_and_read_again_is_the_same_pattern(pattern):
    assert parse_pattern(str(pattern)) == pattern


@given(HOSTILE)
@settings(max_examples=150)
def test_what_parses_prints_to_something_that_parses_to_the_same(text):
    try:
        pattern = parse_pattern(text)
    except PatternError:
        return
    assert parse_pattern(str(pattern)) == pattern


@given(st.text(max_size=300) | HOSTILE)
@settings(max_examples=150)
def test_any_text_is_a_pattern_or_the_documented_error_with_a_position_inside_the_text(text):
    error = error_of(text)
    assert error is None or (error.place is not None and 0 <= error.place.index <= len(text))


@example(" ")
@example("a\\ ")
@given(st.text())
def test_escaping_lets_any_character_stand_in_a_value(text):
    choice = Choice((Pattern.literal(text), *texts("other")), "axis")
    (again,) = parse_pattern(str(Pattern((choice,)))).items
    assert again == choice


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("prefix", ["", "{", "{a|", "__", "{2$$"])
def test_no_text_of_10000_characters_takes_long_to_read(unit, prefix):
    text = (prefix + unit * 10_000)[:10_000]

    def read() -> None:
        try:
            str(parse_pattern(text))
        except PatternError as error:
            str(error)

    assert costs_less(read, 10)  # a thousand turns of a loop a character


def test_a_brace_without_a_bar_is_a_slot():
    for text in ("a {subject} b", "a { subject } b"):
        assert parse_pattern(text).items == (Text("a "), Slot("subject"), Text(" b"))


def test_alternatives_are_a_choice_and_lose_the_space_around_them():
    assert only_item("{ red | dark green }") == Choice(texts("red", "dark green"))


def test_a_choice_may_have_a_name():
    for text in ("{colour: red|green}", "{ colour : red|green }"):
        assert only_item(text) == Choice(texts("red", "green"), "colour")


def test_a_doubled_bar_is_a_bar_in_a_value_and_a_single_one_outside_is_text():
    assert only_item("{a||b|c}") == Choice(texts("a|b", "c"))
    assert parse_pattern("a | b || c") == Pattern.literal("a | b || c")


def test_an_alternative_may_be_empty():
    assert only_item("{|red}") == Choice(texts("", "red"))
    assert only_item("{a| |b}") == Choice(texts("a", "", "b"))


def test_a_choice_may_take_several_alternatives_with_a_joint_of_its_own():
    assert only_item("{2$$a|b|c}") == Choice(texts("a", "b", "c"), None, Take(2, 2))
    assert only_item("{mood: 1-2$$ and $$a|b}") == Choice(
        texts("a", "b"), "mood", Take(1, 2, " and ")
    )
    assert only_item(r"{2$$ \| $$a|b}") == Choice(texts("a", "b"), None, Take(2, 2, " | "))


def test_choices_nest():
    inner = Choice(texts("x", "y"))
    assert only_item("{a {x|y}|b}") == Choice((Pattern((Text("a "), inner)), *texts("b")))


def test_wildcards_have_paths_and_globs_and_lone_underscores_are_text():
    assert parse_pattern("__animal__ in __tiny/*__").items == (
        Wildcard("animal"),
        Text(" in "),
        Wildcard("tiny/*"),
    )
    assert parse_pattern("a ____ blank, snake_case") == Pattern.literal("a ____ blank, snake_case")


def test_an_escape_keeps_the_space_before_it_and_no_space_after_a_later_item():
    kept, stripped = only_item("{a \\ |\\: __x__ }").alternatives
    assert kept == Pattern.literal("a  ")
    assert stripped.items == (Text(": "), Wildcard("x"))


def test_a_lists_name_may_have_spaces_and_lone_underscores_stay_text():
    assert parse_pattern("__female astronaut__").items == (Wildcard("female astronaut"),)
    for text in ("a __ b __ c", "x__y(z)__w", "a ______ b", "__ a__", "{16:9|4:3}", "a_b__c"):
        if text[0] != "{":
            assert parse_pattern(text) == Pattern.literal(text)
    assert only_item("{16:9|at 4:3}") == Choice(texts("16:9", "at 4:3"))
    assert only_item(r"{hair colour\: red|b}") == Choice(texts("hair colour: red", "b"))


def test_a_backslash_is_an_escape_only_before_a_special_character():
    assert parse_pattern(r"\{x\} \(soft\) C:\dir \__a__") == Pattern.literal(
        r"{x} \(soft\) C" + r":\dir __a__"
    )


def test_space_after_a_wildcard_is_stripped_although_an_escape_came_before_it():
    choice = only_item(r"{\: __x__ |b}")
    assert choice.alternatives[0].items == (Text(": "), Wildcard("x"))
    assert only_item(r"{a\ |b}") == Choice(texts("a ", "b"))


def test_plain_prompts_of_other_tools_stay_as_they_are():
    for text in ["(red:1.2) fox", "[a|b]", "[from:to:0.5]", "<lora:x:1>", "a, b AND c", "100% $5"]:
        assert parse_pattern(text) == Pattern.literal(text)


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("a {red|blue fox", 3, "never closed"),
        ("a } b", 3, "closes nothing"),
        ("{red fox}", 1, "slot's name is one word"),
        ("{}", 1, "slot's name is one word"),
        ("{a|{b c}}", 4, "slot's name is one word"),
        ("{0.5::a|b}", 2, "weights"),
        ("{ 0.5::a|b}", 2, "weights"),
        ("{a|2::b}", 4, "weights"),
        ("an ${x}", 4, "OmegaConf"),
        ("{-2$$a|b}", 2, "how many"),
        ("{3-2$$a|b}", 2, "cannot take"),
        ("{0$$a|b}", 2, "cannot take"),
        ("{100$$a|b}", 2, "cannot take"),
        ("{99999999999999999999$$a|b}", 2, "cannot take"),
        ("x" * 500 + "{", 501, "never closed"),
        ("{" * 30, 25, "nested deeper"),
        ("a __x(k=v)__", 3, "looks like a wildcard"),
        ("a __cat, dog__ b", 3, "looks like a wildcard"),
        ("{hair colour: red|blue}", 2, "'hair colour'"),
        ("{a|{big old hair: {b|c}}}", 5, "'big old hair'"),
    ],
)
def test_an_error_names_the_source_the_column_and_the_problem(text, column, words):
    with pytest.raises(PatternError, match=words) as caught:
        parse_pattern(text, source="subject")
    message = str(caught.value)
    assert message.startswith(f"subject, column {column}: ")
    picture, caret = message.splitlines()[1:3]
    assert picture[len(caret) - 1] == text[column - 1]


def fill(template: Pattern, values: dict[str, str | Pattern]) -> Pattern:
    return template.fill(
        {
            name: parse_pattern(value, source=name) if isinstance(value, str) else value
            for name, value in values.items()
        }
    )


def test_filling_puts_values_into_slots_and_keeps_their_names_as_axes():
    template = parse_pattern("cctv footage of {subject} {action}")
    filled = fill(template, {"subject": "a {red|blue} fox", "action": "{asleep|awake}"})
    assert str(filled) == "cctv footage of {subject: a {red|blue} fox} {action: asleep|awake}"
    assert fill(template, {"subject": "a fox", "action": "asleep"}).text == (
        "cctv footage of a fox asleep"
    )


def test_values_may_hold_slots_and_a_style_goes_around_a_template():
    template = fill(
        parse_pattern("{subject} on {ground}"),
        {"subject": "a fox", "ground": "{colour} snow", "colour": "blue"},
    )
    assert fill(parse_pattern("{prompt} by Monet"), {"prompt": template}).text == (
        "a fox on blue snow by Monet"
    )


def test_the_slots_of_a_pattern_are_the_names_it_needs_from_outside():
    pattern = parse_pattern("{subject} {a|{action}} {colour: red|blue} {colour} __pet__ {pet}")
    assert pattern.slots == ("subject", "action")


def test_an_unfilled_slot_lists_the_known_names():
    with pytest.raises(PatternError, match=r"nothing fills the slot \{subjct\}") as caught:
        fill(parse_pattern("a {subjct}"), {"subject": "fox", "action": "asleep"})
    assert "Known here: action, subject" in str(caught.value)


def test_values_that_need_each_other_in_a_circle_are_refused():
    with pytest.raises(PatternError, match="a → b → a"):
        fill(parse_pattern("{a}"), {"a": "{b}", "b": "{a}"})
    with pytest.raises(PatternError, match="subject → subject"):
        fill(parse_pattern("{subject}"), {"subject": "{subject}"})


def test_a_name_is_either_a_key_or_an_axis_of_the_prompt():
    with pytest.raises(PatternError, match="'colour' is given twice"):
        fill(parse_pattern("{subject}"), {"subject": "{colour: red|blue} fox", "colour": "green"})
    with pytest.raises(PatternError, match="'pet' is given twice"):
        fill(parse_pattern("{subject}"), {"subject": "__pet__", "pet": "cat"})


def test_only_a_plain_pattern_is_one_text():
    with pytest.raises(PatternError, match="Expected one text"):
        _ = parse_pattern("{a|b}").text
