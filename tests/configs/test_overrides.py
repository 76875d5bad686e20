"""Prompts on Hydra's command line."""

from __future__ import annotations

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.configs.counting import MAX_JOBS, check_num_jobs
from promptlab.configs.launcher import split_overrides
from promptlab.configs.overrides import prepare_arguments, prepare_override
from promptlab.configs.quoting import quote
from promptlab.errors import ConfigError, PlanTooLargeError
from tests.pace import costs_less

PARSER = OverridesParser.create()


def values(override: str) -> list[object]:
    """What Hydra makes of an override: one value, or those of a sweep."""
    parsed = PARSER.parse_override(override)
    if parsed.is_sweep_override():
        return [PARSER.parse_override(f"x={v}").value() for v in parsed.sweep_string_iterator()]
    return [parsed.value()]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("subject={red|blue} fox", ["{red|blue} fox"]),
        ("subject={red|blue}", ["{red|blue}"]),
        ("subject={colour: red|blue}", ["{colour: red|blue}"]),
        ("subject={colour: red|blue} fox,a cat", ["{colour: red|blue} fox", "a cat"]),
        ("subject={2$$a|b, c|d}", ["{2$$a|b, c|d}"]),
        ("subject= {colour: red|blue}", ["{colour: red|blue}"]),
        ("subject={red|blue} ${place}", ["{red|blue} ${place}"]),
        ("subject=a smile :),a frown :(,c", ["a smile :)", "a frown :(,c"]),
        ("subject=it's a fox, isn't it", ["it's a fox", "isn't it"]),
        ("subject='a, b',{x|y}", ["a, b", "{x|y}"]),
        ("subject=a fox! & <b> #1; (soft:1.2)", ["a fox! & <b> #1; (soft:1.2)"]),
        (r"subject=été\, bleu", ["été, bleu"]),
        ("subject=@my file.csv:Prompt (en)", ["@my file.csv:Prompt (en)"]),
        ("+place={a|b}", ["{a|b}"]),
        ("template.pattern=two of {subject}", ["two of {subject}"]),
        ("subject=__animal__ in __place__", ["__animal__ in __place__"]),
        ("subject=100 % é\\", ["100 % é\\"]),
    ],
)
def test_a_prompt_reaches_hydra_as_it_was_meant(typed, meant):
    assert values(prepare_override(typed)) == meant


@pytest.mark.parametrize(
    ("typed", "prepared"),
    [
        ("subject=1.50,a", 'subject="1.50",a'),
        ("subject=5", 'subject="5"'),
        ("parent=1234567890123456", 'parent="1234567890123456"'),
        ("subject=null", "subject=null"),
        ("place=nan", 'place="nan"'),
        ("temperature=0.5,1", "temperature=0.5,1"),
        ("temperature=0.50", 'temperature="0.50"'),
        ("model.size=1.50", "model.size=1.50"),
        ("3.cfg=1.50", "3.cfg=1.50"),
        ("limit=1_000", "limit=1_000"),
        ("temperature=range(0,1,0.50)", "temperature=range(0,1,0.50)"),
        ("style=Küche", 'style="Küche"'),
        ("style=a,Küche", 'style=a,"Küche"'),
        ("runs_dir=été", 'runs_dir="été"'),
        ("hydra.run.dir=été", 'hydra.run.dir="été"'),
    ],
)
def test_a_text_keeps_its_characters_and_a_number_stays_one(typed, prepared):
    assert prepare_override(typed) == prepared


@pytest.mark.parametrize(
    "override",
    [
        *("subject=a fox", "subject=a fox,a robot", "subject='{a|b}'", "subject=[a,b]", "subject="),
        *("style=glob(*)", "temperature=range(0,1,0.1)", "subject=choice(a,b)", "-m", "--cfg=job"),
        *("subject=${name}", "store={embed_images:false}", "exclude=[{style:noto}]", "~subject"),
        *("hydra.sweep.dir=x", "subject={a:b}", "seeds=0-3", "subject=null", "--config-dir=é"),
        *("subject={a: b|c},a cat", "--config-dir=a b"),
    ],
)
def test_what_hydra_reads_by_itself_stays_untouched(override):
    assert prepare_override(override) == override


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("'\"\\,{}|$()[]: "), max_size=30))
@settings(max_examples=200)
def test_any_prompt_is_readable_for_hydra_or_refused_with_the_form_to_type(text):
    try:
        prepared = prepare_override(f"subject={text}")
    except ConfigError as error:
        pasted = re.findall(r"'subject=.*?'(?=$|;)", str(error))
        assert all(values(shlex.split(form)[0]) for form in pasted)
        return
    assert values(prepared) is not None


@pytest.mark.parametrize(
    ("arguments", "pasted"),
    [
        (["subject=a fox, red"], ["-m subject='a fox, red'", "subject='\"a fox, red\"'"]),
        (["subject={a|b},c"], ["subject='\"{a|b},c\"'"]),
        (["subject=choice({a|b},c d)"], ['subject=\'choice("{a|b}","c d")\'']),
        (
            [r"subject=choice('it\'s',{c|d})"],
            [r'''subject="choice(\"it's\",\"{c|d}\")"'''],
        ),
        (["subject=[{a|b},c]"], ['subject=\'["{a|b}","c"]\'', "subject='\"[{a|b},c]\"'"]),
        (["exclude=[{style: a!, subject: b}]"], ["exclude='[{style: \"a!\", subject: b}]'"]),
        (['subject=a sign, "open"'], ["""subject="'a sign, \\"open\\"'\""""]),
    ],
)
def test_what_is_ambiguous_is_an_error_with_the_quoted_form_ready_to_paste(arguments, pasted):
    with pytest.raises(ConfigError) as caught:
        prepare_arguments(arguments)
    for form in pasted:
        assert form in str(caught.value)
        (word,) = shlex.split(form.removeprefix("-m "))
        assert split_overrides([PARSER.parse_override(word)], None, None)


def test_a_sweep_may_have_commas():
    for flag in ("-m", "--multirun", "hydra.mode=MULTIRUN", "+sweeps=mine"):
        assert prepare_arguments([flag, "subject=a,b"]) == [flag, "subject=a,b"]


def test_a_million_jobs_are_refused_before_they_are_enumerated():
    overrides = PARSER.parse_overrides(["temperature=range(0,10,0.01)", "top_k=range(1,1001)"])

    def check() -> None:
        with pytest.raises(PlanTooLargeError, match=r"1,000,000 .* limit of 20,000") as caught:
            check_num_jobs(overrides, {"limit": 20_000})
        assert "limit=1000000" in str(caught.value)

    assert costs_less(check, 1)  # less than one turn of a bare loop for each job


@pytest.mark.parametrize(
    "value",
    ["range(0,10,3)", "range(0,9,3)", "range(5)", "range(0,1,0.25)", "range(3,0,-1)", "a,b"],
)
def test_the_number_of_jobs_of_an_axis_is_what_hydra_enumerates(value):
    (override,) = PARSER.parse_overrides([f"top_k={value}"])
    number = len(list(override.sweep_string_iterator()))
    check_num_jobs([override], {"limit": number})
    with pytest.raises(PlanTooLargeError, match=f"holds {number} cells"):
        check_num_jobs([override], {"limit": number - 1})


def test_an_axis_that_a_later_override_replaces_is_not_counted():
    """As where a command gives one value to an axis of a named sweep."""
    overrides = PARSER.parse_overrides(["top_k=range(0,30000)", "++n=range(0,9)", "top_k=3"])
    check_num_jobs(overrides, {"limit": 9})
    with pytest.raises(PlanTooLargeError, match=r"holds 9 cells or more \(n 9\)"):
        check_num_jobs(overrides, {"limit": 8})


CHOICES = [["it's", "b"], ["1.50", "010", "1e3", "TRUE", "null"], ['a "b"', "a\\", "{c|d}", "x y"]]


@pytest.mark.parametrize("texts", CHOICES)
def test_the_texts_of_a_choice_are_those_that_were_quoted(texts):
    """Hydra takes their quotes off and would read them anew, job by job."""
    given = PARSER.parse_overrides([f"place=choice({','.join(map(quote, texts))})"])
    (jobs,) = split_overrides(given, None, None)
    assert [PARSER.parse_override(override).value() for (override,) in jobs] == texts


def test_numbers_and_plain_words_of_a_choice_stay_as_they_are():
    (jobs,) = split_overrides(PARSER.parse_overrides(["x=choice(1.5,true,noto,a b)"]), None, None)
    assert [override for (override,) in jobs] == ["x=1.5", "x=True", "x=noto", "x=a\\ b"]


def test_a_limit_on_the_command_line_counts_and_zips_may_leave_few_of_many_jobs():
    grid = ["subject=" + ",".join(map(str, range(200))), "style=" + ",".join("s" * 200)]
    check_num_jobs(PARSER.parse_overrides([*grid, "limit=40000"]), {"limit": 20_000})
    check_num_jobs(PARSER.parse_overrides([*grid, "zip=[[subject,style]]"]), {"limit": 20_000})
    check_num_jobs(PARSER.parse_overrides(grid), {"limit": 20_000, "exclude": [{"style": "s"}]})
    many = [f"top_k=range(0,{MAX_JOBS + 1})", "only=[{top_k: 3}]"]
    check_num_jobs(PARSER.parse_overrides([*many, f"limit={MAX_JOBS + 1}"]), {})
    for too_many, limit in ((grid, 20_000), (grid, None), (many, 20_000)):
        with pytest.raises(PlanTooLargeError):
            check_num_jobs(PARSER.parse_overrides(too_many), {"limit": limit})
