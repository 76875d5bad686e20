"""Samples, zips and rules over the jobs of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptlab.errors import ConfigError, PlanTooLargeError
from promptlab.planning.language import (
    Grid,
    GridOptions,
    JobPattern,
    PatternError,
    Wildcards,
    parse_pattern,
    read_value,
)
from promptlab.planning.language.options import Sample
from tests.pace import costs_less


def job(pattern: str, values: Mapping[str, Any] | None = None, **fixed: Any) -> JobPattern:
    read = {name: read_value(name, value) for name, value in (values or {}).items()}
    return JobPattern(parse_pattern(pattern), {k: v for k, v in read.items() if v}, fixed)


def grid(*jobs: JobPattern, **options: Any) -> Grid:
    return Grid(jobs, GridOptions.parse(**options), Wildcards())


def prompts(g: Grid) -> list[str]:
    found = [point.prompt for point in g.points()]
    assert len(found) == g.count().num_points
    return found


def product_of_jobs(subjects: list[Any], styles: list[str]) -> list[JobPattern]:
    """The jobs that Hydra makes of `subject=a,b style=x,y`."""
    return [
        job("{subject} as {s}", {"subject": subject, "s": style}, style=style)
        for subject in subjects
        for style in styles
    ]


AXES = {"a": ["1", "2", "3"], "b": ["x", "y"], "c": ["p", "q", "r", "s"], "model": ["m1", "m2"]}
CONDITIONS = st.dictionaries(
    st.sampled_from(sorted(AXES)),
    st.lists(st.sampled_from(["1", "2", "x", "[pq]", "m1", "m*", "*", "zzz"]), min_size=1),
    min_size=1,
)


def fits(condition: Mapping[str, list[str]], point: Mapping[str, str]) -> bool:
    from fnmatch import fnmatchcase

    return all(any(fnmatchcase(point[a], v) for v in values) for a, values in condition.items())


@given(st.lists(CONDITIONS, max_size=3), st.lists(CONDITIONS, max_size=2))
@settings(max_examples=200)
def test_rules_keep_exactly_the_points_that_a_plain_filter_keeps(exclude, only):
    texts = {axis: "|".join(values) for axis, values in AXES.items()}
    pattern = f"{{a: {texts['a']}}} {{subject}} {{c: {texts['c']}}}"
    jobs = [job(pattern, {"subject": "{b: x|y}!"}, model=model) for model in AXES["model"]]
    g = grid(*jobs, exclude=exclude, only=only)
    every = [
        {"model": m, "a": a, "b": b, "c": c}
        for m, a, b, c in product(AXES["model"], AXES["a"], AXES["b"], AXES["c"])
    ]
    chosen = [p for p in every if not only or any(fits(rule, p) for rule in only)]
    kept = [p for p in chosen if not any(fits(rule, p) for rule in exclude)]
    assert g.count().num_points == len(kept)
    assert g.count().num_removed == len(every) - len(kept)
    found = [
        {"model": jobs[p.job_index].fixed["model"], **{k: p.coordinates[k] for k in "abc"}}
        for p in g.points()
    ]
    assert found == kept
    idle = [r for r in [*only, *exclude] if not any(fits(r, p) for p in every)]
    assert len(g.count().warnings) == len(idle)


def test_a_rule_looks_at_the_jobs_own_axes_at_the_subject_and_at_parts_of_it():
    jobs = [job("{subject}", {"subject": "{red|blue} {fox|cat}"}, style=s) for s in ["x", "y"]]
    g = grid(*jobs, exclude=[{"style": "x", "subject": "*fox"}, {"red_blue": "red", "style": "y"}])
    assert prompts(g) == ["red cat", "blue cat", "blue fox", "blue cat"]
    assert g.count().removed == {
        "exclude {style: x, subject: *fox}": 2,
        "exclude {red_blue: red, style: y}": 2,
    }


# Patterns with axes inside others, repeated, taken together, given by a slot; and what of them may
# be sampled or zipped: axes that every prompt has, outside of others.
NESTED = [
    ("{light: fog|sun} {subject} {d: 1|2}", "{c: red|blue} {fox|cat}", ["light", "d"]),
    ("{c: x|y} {a: {c} p|q} {b: r|s} {c}", "", ["c", "b"]),
    ("{e: u|v|w} {subject} {d: 1|2|3} {subject}", ["{c: red|blue} fox", "cat"], ["e", "d"]),
    ("{a: {n: 1|2} p|q {n}|r} {b: u|v|w} {d: 1|2|3}", "", ["a", "b", "d"]),
    ("{a: 2$$x|y|z} {b: u|v|w} {subject}", "fox", ["a", "b"]),
    ("{a: {c: 1|2} p|q} {d: k|l} {b: {c} r|s}", "", ["c", "d"]),
]


def chooses(condition: Mapping[str, list[str | None]], point: Mapping[str, str]) -> bool:
    return all(point.get(axis) in values for axis, values in condition.items())


@given(st.sampled_from(NESTED), st.data())
@settings(max_examples=100)
def test_samples_zips_and_rules_keep_what_plain_filters_one_after_the_other_keep(nested, data):
    pattern, subject, whole = nested
    jobs = [job(pattern, {"subject": subject}, model=model) for model in ("m1", "m2")]
    every = [
        {"": p.prompt, "model": jobs[p.job_index].fixed["model"], **p.coordinates}
        for p in grid(*jobs).points()
    ]
    values = {axis: list(dict.fromkeys(p[axis] for p in every)) for axis in [*whole, "model"]}
    sampled = data.draw(st.lists(st.sampled_from(sorted(values)), max_size=2, unique=True))
    sample = {axis: data.draw(st.integers(1, len(values[axis]))) for axis in sampled}
    chosen = {
        a: list(Sample(sample[a]).choose(values[a])) if a in sample else values[a] for a in values
    }
    pairs = [(a, b) for a in values for b in values if a < b and len(chosen[a]) == len(chosen[b])]
    zipped = data.draw(st.none() | st.sampled_from(pairs)) if pairs else None
    axes = sorted({axis for point in every for axis in point} - {""})
    of_axis = {axis: sorted({p.get(axis, "null") for p in every}) for axis in axes}
    rule = st.lists(st.sampled_from(axes), min_size=1, max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries(
            {n: st.lists(st.sampled_from(of_axis[n]), min_size=1, max_size=2) for n in names}
        )
    )
    rules = {kind: data.draw(st.lists(rule, max_size=2)) for kind in ("only", "exclude")}

    kept = [p for p in every if all(p[axis] in chosen[axis] for axis in values)]
    if zipped is not None:
        a, b = zipped
        kept = [p for p in kept if chosen[a].index(p[a]) == chosen[b].index(p[b])]
    full = [{axis: p.get(axis, "null") for axis in ["", *axes]} for p in kept]
    kept = [
        point
        for point, texts in zip(kept, full, strict=True)
        if (not rules["only"] or any(chooses(r, texts) for r in rules["only"]))
        and not any(chooses(r, texts) for r in rules["exclude"])
    ]
    made = grid(*jobs, sample=sample, zip=[zipped] if zipped else None, **rules)
    found = [
        {"": p.prompt, "model": jobs[p.job_index].fixed["model"], **p.coordinates}
        for p in made.points()
    ]
    assert made.count().num_points == len(found)
    assert sorted(map(str, found)) == sorted(map(str, kept))


def test_a_job_without_the_axis_of_a_rule_has_no_value_of_it():
    jobs = [job("{c: x|y}"), job("z"), job("{a: {c: x|v} w|u}")]
    assert prompts(grid(*jobs, exclude=[{"c": "x"}])) == ["y", "z", "v w", "u"]
    assert prompts(grid(*jobs, only=[{"c": "x"}])) == ["x", "x w"]


def test_a_swept_slot_is_sampled_by_its_values_and_not_by_what_was_written():
    jobs = [job("{s}", {"s": text}, s=text) for text in ("{red|blue}", "{dark|pale}")]
    made = grid(*jobs, sample={"s": 3})
    assert prompts(made) == list(made.samples["s"])
    assert len(made.samples["s"]) == 3 == made.axis_counts()["s"]
    assert prompts(grid(*jobs, sample={"s": 4})) == ["red", "blue", "dark", "pale"]


def test_the_values_of_an_axis_are_counted_over_all_jobs_and_no_choice_within_a_value_is_one():
    jobs = [job("{s}", {"s": text}) for text in (["p", "{q|r} s"], "{dark|pale}", "t", "t")]
    assert grid(*jobs).axis_counts() == {"s": 6}


def test_a_name_of_a_prompts_own_axis_is_no_other_name_of_a_wildcard(tmp_path):
    (tmp_path / "b.txt").write_text("1\n2\n")
    options = GridOptions.parse(exclude=[{"b": ["x", "1"]}])
    made = Grid([job("{a: __b__} {b: x|y}")], options, Wildcards((tmp_path,)))
    assert prompts(made) == ["1 y", "2 y"]


def test_a_rule_compares_numbers_as_numbers_and_null_with_what_is_not_there():
    jobs = [job("{subject}", {"subject": "{a {c: x|y}|b}"}, temperature=t) for t in [0.5, 1.0]]
    assert prompts(grid(*jobs, exclude=[{"temperature": 1}])) == ["a x", "a y", "b"]
    assert prompts(grid(*jobs, exclude=[{"temperature": "1.0"}])) == ["a x", "a y", "b"]
    assert prompts(grid(*jobs, only=[{"c": None}])) == ["b", "b"]


def test_a_rule_finds_a_text_that_writes_its_number():
    jobs = [job("{subject}", {"subject": ["1.50", "010", "x"]})]
    assert prompts(grid(*jobs, exclude=[{"subject": 1.5}])) == ["010", "x"]
    assert prompts(grid(*jobs, only=[{"subject": [10, True]}])) == ["010"]


def test_a_truth_value_and_the_number_that_equals_it_are_two_values():
    jobs = [job("{subject}", {"subject": "x"}, flag=flag) for flag in (1, True)]
    assert grid(*jobs, only=[{"flag": True}]).count().per_job == (0, 1)


def test_a_sampled_axis_is_zipped_by_the_values_that_were_chosen():
    g = grid(job("{a: 1|2|3} {b: x|y}"), sample={"a": 2}, zip=[["a", "b"]])
    first, second = g.samples["a"]
    assert prompts(g) == [f"{first} x", f"{second} y"]


def test_a_value_with_glob_characters_matches_itself():
    jobs = [job("{subject}", {"subject": ["a [b] *", "c"]})]
    assert prompts(grid(*jobs, exclude=[{"subject": "a [b] *"}])) == ["c"]


def test_a_point_that_two_rules_exclude_counts_for_the_first():
    g = grid(job("{a: 1|2|3}"), exclude=[{"a": ["1", "2"]}, {"a": ["2", "3"]}])
    assert g.count().removed == {"exclude {a: [1, 2]}": 2, "exclude {a: [2, 3]}": 1}


def test_a_rule_that_matches_nothing_warns():
    g = grid(job("{a: 1|2}"), exclude=[{"a": "3"}])
    assert g.count().num_points == 2
    assert g.count().warnings == ("The rule exclude {a: 3} matches nothing: check its names.",)


@pytest.mark.parametrize(
    "options", [{"exclude": [{"z": 1}]}, {"zip": [["a", "z"]]}, {"sample": {"z": 1}}]
)
def test_an_option_on_an_axis_that_does_not_exist_lists_those_that_do(options):
    with pytest.raises(ConfigError, match=r"no axis 'z'. Its axes: a, style, subject"):
        _ = grid(job("{subject}", {"subject": "{a: 1|2}"}, style="x"), **options).count().num_points


def test_zipped_axes_go_side_by_side_within_one_prompt():
    g = grid(job("{subject} {a: 1|2|3}", {"subject": ["p", "q", "r"]}), zip=[["subject", "a"]])
    assert prompts(g) == ["p 1", "q 2", "r 3"]


def test_zipped_axes_may_be_hydras_own():
    jobs = product_of_jobs(["p", "q", "r"], ["x", "y", "z"])
    assert prompts(grid(*jobs, zip=[["subject", "style"]])) == ["p as x", "q as y", "r as z"]


def test_zipped_axes_may_both_be_outside_of_the_prompt():
    jobs = [job("{subject}", {"subject": "p"}, style=s, model=m) for s in "xy" for m in "mn"]
    g = grid(*jobs, zip=[["style", "model"]])
    assert prompts(g) == ["p", "p"]
    assert [point.job_index for point in g.points()] == [0, 3]


def test_an_axis_of_the_prompt_zips_with_one_of_hydras():
    jobs = product_of_jobs([["p", "q"]], ["x", "y"])
    assert prompts(grid(*jobs, zip=[["style", "subject"]])) == ["p as x", "q as y"]


def test_values_that_repeat_keep_their_places():
    g = grid(
        job("{subject} {action}", {"subject": ["p", "q", "p"], "action": ["1", "1", "2"]}),
        zip=[["subject", "action"]],
    )
    assert prompts(g) == ["p 1", "q 1", "p 2"]


def test_more_than_two_axes_and_more_than_one_zip():
    text = "{a: 1|2} {b: x|y} {c: p|q} {d: u|v|w} {e: U|V|W}"
    g = grid(job(text), zip=[["a", "b", "c"], ["d", "e"]])
    assert prompts(g) == [
        f"{abc} {de}" for abc in ["1 x p", "2 y q"] for de in ["u U", "v V", "w W"]
    ]


def test_zipped_axes_may_stand_in_one_block():
    text = "{c: x|y}{c} {d: p|q}{d} {f: {c}{d}|z}"
    assert prompts(grid(job(text), zip=[["c", "d"]])) == [
        "xx pp xp",
        "xx pp z",
        "yy qq yq",
        "yy qq z",
    ]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_lengths_that_differ_are_an_error_that_gives_both(m, n, others):
    values = [
        [f"{axis}{i}" for i in range(number)] for axis, number in zip("ab", (m, n), strict=True)
    ]
    text = "{a} {b} {c: " + "|".join("pqr"[:others]) + "}"
    jobs = [job(text, {"a": values[0], "b": values[1]})]
    if m == n:
        assert grid(*jobs, zip=[["a", "b"]]).count().num_points == m * others
        return
    with pytest.raises(ConfigError, match=f"a has {m}, b has {n}"):
        grid(*jobs, zip=[["a", "b"]])


def test_a_sample_is_the_same_every_time_and_grows_without_losing_values():
    values = [f"v{i}" for i in range(100)]
    chosen = {}
    for count in (5, 20):
        g = grid(job("{a} {b: x|y}", {"a": values}), sample={"a": count})
        assert g.count().num_points == 2 * count
        assert len(prompts(g)) == 2 * count
        chosen[count] = g.samples["a"]
        assert list(chosen[count]) == sorted(chosen[count], key=values.index)
    assert set(chosen[5]) < set(chosen[20])
    other = grid(job("{a}", {"a": values}), sample={"a": {"count": 20, "seed": 7}})
    assert other.samples["a"] != chosen[20]


def test_one_vanished_value_of_a_recorded_sample_is_refused():
    options = GridOptions.parse(sample={"a": 2})
    jobs = [job("{a: 1|2|3|4}")]
    resumed = Grid(jobs, options, Wildcards(), recorded_samples={"a": ["2", "4"]})
    assert prompts(resumed) == ["2", "4"]
    with pytest.raises(ConfigError, match="no longer there: 5"):
        Grid(jobs, options, Wildcards(), recorded_samples={"a": ["2", "5"]})


def test_the_samples_of_fixed_values_are_these():
    values = ["fox", "owl", "cat", "dog", "bee", "ant", "elk", "hen", "été", "1"]
    assert Sample(4).choose(values) == ("fox", "owl", "cat", "1")
    assert Sample(4, seed=1).choose(values) == ("bee", "elk", "hen", "été")


def test_hydras_axes_can_be_sampled_too_and_a_sample_comes_before_a_zip():
    jobs = product_of_jobs(["p", "q", "r"], ["x", "y", "z"])
    g = grid(*jobs, sample={"subject": 2, "style": 2}, zip=[["subject", "style"]])
    assert len(prompts(g)) == 2
    assert len(g.samples["style"]) == 2


def test_a_sample_of_more_than_there_is_is_an_error():
    with pytest.raises(ConfigError, match="asks for 3 values of a, which has 2"):
        grid(job("{a: 1|2}"), sample={"a": 3})


def test_a_wildcard_that_fills_a_slot_answers_to_both_names(tmp_path):
    (tmp_path / "pet.txt").write_text("cat\ndog\nfish\n")
    wildcards = Wildcards((tmp_path,))
    for axis in ("pet", "subject"):
        options = GridOptions.parse(sample={axis: 2}, exclude=[{axis: "nothing"}])
        g = Grid([job("a {subject}", {"subject": "__pet__"})], options, wildcards)
        assert g.count().num_points == 2
        rules = GridOptions.parse(exclude=[{axis: "cat"}])
        kept = Grid([job("a {subject}", {"subject": "__pet__"})], rules, wildcards)
        assert prompts(kept) == ["a dog", "a fish"]
        assert {key for point in g.points() for key in point.coordinates} == {"subject"}


def test_an_axis_that_shows_a_repeated_one_inside_cannot_be_sampled():
    with pytest.raises(ConfigError, match="f holds the repeated axis c; name that one"):
        grid(job("{c: x|y}{c} {f: {c}p|z}"), sample={"f": 1})


def test_a_wildcard_that_fills_two_axes_is_the_name_of_neither(tmp_path):
    (tmp_path / "pet.txt").write_text("cat\ndog\n")
    twice = job("{hunter: __pet__} and {prey: __pet__}")
    with pytest.raises(ConfigError, match=r"no axis 'pet'. Its axes: hunter, prey"):
        Grid([twice], GridOptions.parse(sample={"pet": 1}), Wildcards((tmp_path,)))


def test_a_million_points_are_counted_and_filtered_without_being_built():
    values = "|".join(map(str, range(100)))
    subject = f"{{a: {values}}} {{b: {values}}} {{c: {values}}}"
    jobs = [job("{subject}", {"subject": subject}, style="x")]

    def count() -> None:
        assert grid(*jobs).count().num_points == 1_000_000
        rules = [{"a": "1*", "b": ["2", "3*"]}, {"c": "5"}]
        assert grid(*jobs, exclude=rules).count().num_points == 1_000_000 - 13_200 - 9_868
        assert grid(*jobs, zip=[["a", "b"]]).count().num_points == 10_000

    assert costs_less(count, 40)  # a point that is built takes hundreds of a loop's turns
    assert next(grid(*jobs).points()).prompt == "0 0 0"


def test_what_would_need_an_endless_list_is_refused_at_once():
    subject = " ".join(f"{{a{i}: x|y}}" for i in range(30))

    def count() -> None:
        with pytest.raises(PlanTooLargeError, match="list of 1,073,741,824 values"):
            grid(job("{subject}", {"subject": subject}), exclude=[{"subject": "x*"}]).count()

    assert costs_less(count, 40)
    many = " ".join(f"{{a{i}: x|y}}" for i in range(21))
    with pytest.raises(PlanTooLargeError, match="sample: subject would need a list of 2,097,152"):
        grid(job("{subject}", {"subject": many}), sample={"subject": 1})


def test_a_text_of_its_own_for_each_job_stands_wherever_its_slot_does():
    pattern = "{subject}, {of {subject}|of {b: x|y}}: {subject}"
    jobs = [job(pattern, {"subject": subject}) for subject in "pq"]
    g = grid(*jobs)
    assert g.count().per_job == (3, 3)
    assert prompts(g) == [f"{s}, of {i}: {s}" for s in "pq" for i in (s, "x", "y")]
    assert [point.coordinates["subject"] for point in g.points()] == ["p"] * 3 + ["q"] * 3
    assert g.axis_counts()["subject"] == 2
    kept = grid(*jobs, exclude=[{"subject": "p"}])
    assert kept.count().removed == {"exclude {subject: p}": 3}
    assert prompts(kept) == ["q, of q: q", "q, of x: q", "q, of y: q"]


def test_counting_twice_gives_the_same_count():
    g = grid(job("{a: 1|2}"), exclude=[{"a": "3"}])
    assert g.count() == g.count()


def test_parts_of_the_subject_are_told_apart_from_the_other_axes():
    point = next(
        grid(
            job("{subject} {light: dim|bright} {c}", {"subject": "{c: red|blue} {fox|cat}"})
        ).points()
    )
    assert point.coordinates == {
        "subject": "red fox",
        "c": "red",
        "fox_cat": "fox",
        "light": "dim",
    }
    assert point.subject_parts == {"fox_cat"}
    deeper = job("{subject} {on: {c} snow|ice}", {"subject": "{c: red|blue} fox"})
    assert {p.subject_parts for p in grid(deeper).points()} == {frozenset()}


@pytest.mark.parametrize(
    "options",
    [
        {"zip": "subject"},
        {"zip": [["a"]]},
        {"zip": [["a", "b"], ["b", "c"]]},
        {"zip": [[1, 2]]},
        {"exclude": "photo"},
        {"exclude": ["photo"]},
        {"exclude": [{}]},
        {"exclude": [{"a": {"b": 1}}]},
        {"only": [{"a": []}]},
        {"sample": 20},
        {"sample": {"a": 0}},
        {"sample": {"a": "many"}},
        {"sample": {"a": {"number": 3}}},
        {"sample": {"a": True}},
        {"sample": {"a": {"count": 3, "sed": 7}}},
        {"sample": {"a": {"count": 3, "seed": "seven"}}},
        {"zip": [["a", "a"]]},
    ],
)
def test_options_of_another_form_are_refused_with_the_right_form(options):
    with pytest.raises(ConfigError, match=r"expected|appears twice"):
        GridOptions.parse(**options)


def test_a_sample_may_be_taken_back_and_one_zip_needs_no_list_of_lists():
    options = GridOptions.parse(sample={"a": None, "b": 2}, zip=["a", "b"])
    assert options.samples == {"b": Sample(2)}
    assert options.zips == (("a", "b"),)


@pytest.mark.parametrize(
    ("zipped", "words"),
    [(["a", "b"], "'b' is missing in a part"), (["a", "c"], "exists only inside an alternative")],
)
def test_an_axis_that_not_every_prompt_has_cannot_be_zipped(zipped, words):
    jobs = [job("{a: {c: x|y} w|u} {b: 1|2|3}"), job("{a: {c: x|y} w|u}")]
    with pytest.raises(ConfigError, match=words):
        grid(*jobs, zip=[zipped])


def test_a_name_is_given_once_by_a_key_or_by_a_prompt():
    for subject in ("{colour: red|blue} fox", "a __colour__ fox"):
        with pytest.raises(PatternError, match="'colour' is given twice"):
            grid(job("{subject} {colour}", {"subject": subject, "colour": "green"}))


def test_a_named_choice_that_fills_a_slot_keeps_its_name():
    points = grid(job("{subject}", {"subject": "{colour: red|blue}"})).points()
    assert [p.coordinates for p in points] == [{"subject": c, "colour": c} for c in ("red", "blue")]


@pytest.mark.parametrize(
    ("item", "matched", "others"),
    [
        ("fox", ["fox"], ["Fox", "foxes", None, 1]),
        ("fo*", ["fox", "fo"], ["Fox", None]),
        ("*", ["fox", "", 1, 0.5], [None, True]),
        ("0.*", [0.5, 0.25, "0.1"], [1.5, 0]),
        (1, [1, 1.0, "1", "1.0", "01"], [True, "true", 2, None]),
        (True, [True, "True"], [1, "1", 1.0, False, None]),
        ("True", [True, "True"], [False, "true"]),
        ("false", [False, "false"], [True, 0, None]),
        (None, [None], ["None", "null", "", False, 0]),
        ("null", [None, "null"], ["None", 0]),
        ("a[b]", ["a[b]", "ab"], ["a"]),
    ],
)
def test_an_entry_of_a_rule_means_these_values_and_no_others(item, matched, others):
    (rule,) = GridOptions.parse(exclude=[{"a": item}]).rules
    assert [v for v in [*matched, *others] if rule.matches("a", v)] == matched
