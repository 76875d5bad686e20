"""What holds for a whole sweep is read from its jobs, checked, and the same for all of them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pytest

from promptlab.configs.settings import (
    SWEEP_KEYS,
    Job,
    Settings,
    Upscale,
    build_options,
    settings_from_jobs,
    with_node_inputs,
)
from promptlab.errors import ConfigError


def job(number: int = 0, sweeps: str | None = None, **config: object) -> Job:
    """Return a job with this config; each of its keys was an override."""
    return Job(number, (), dict(config), config, {"sweeps": sweeps})


def read(*configs: dict[str, object]) -> Settings:
    return settings_from_jobs([job(number, **config) for number, config in enumerate(configs)])


def test_a_sweep_that_sets_nothing_has_the_defaults():
    off = dict.fromkeys(("store", "tracking", "report", "workers"))
    found = read({"subject": "a fox"})
    assert found == Settings("a-fox", former_name="sweep", stages=off)
    assert (found.limit, found.reuse, found.runs_dir) == (20_000, True, "runs")
    assert (found.budget, found.allow_unknown_price, found.score) == (None, False, ())


def test_each_setting_is_the_one_that_was_given():
    given = {
        **{"name": "mine", "limit": 7, "reuse": False, "runs_dir": "s3://b/runs", "budget": 0.5},
        **{"then": ["upscale"], "allow_unknown_price": True, "score": ["a", "b"]},
        **{"seeds": "auto", "until": "a > 0.5", "workers": {"num": 2}, "report": None},
    }
    found = read(given, given)
    for key in ("name", "limit", "reuse", "runs_dir", "budget", "then", "allow_unknown_price"):
        assert getattr(found, key) == given[key], key
    assert (found.score, found.until) == (("a", "b"), "a > 0.5")
    assert found.stages == {"store": None, "tracking": None, "report": None, "workers": {"num": 2}}
    assert read({"score": "sharpness"}).score == ("sharpness",)


@pytest.mark.parametrize("key", SWEEP_KEYS)
def test_what_holds_for_the_whole_sweep_is_refused_as_an_axis_whichever_job_differs(key):
    same = {"subject": "x", key: {"a": 1}}
    with pytest.raises(ConfigError, match=f"{key} cannot be an axis"):
        read(same, same, {**same, key: {"a": 2}})
    with pytest.raises(ConfigError, match=f"{key} cannot be an axis"):
        read({"subject": "x"}, same)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_in_any_job_and_at_any_depth(value):
    for config in ({"temperature": value}, {"model": {"inner": {"scale": value}}}):
        with pytest.raises(ConfigError, match=r"(temperature|model\.inner\.scale)=.*finite"):
            read(config)
        with pytest.raises(ConfigError, match="finite"):
            read({"subject": "x"}, {"subject": "x", **config})


@pytest.mark.parametrize(
    ("sweeps", "config", "name", "former"),
    [
        ("mine/cats", {"name": "given", "subject": "a fox"}, "given", None),
        ("mine/cats", {"subject": "a fox"}, "cats", None),
        (None, {"subject": "a fox"}, "a-fox", "sweep"),
        (None, {"subject": "Ein {roter|blauer} Fuchs"}, "ein-roter-blauer-fuchs", "sweep"),
        (None, {"subject": "狐"}, "sweep", "sweep"),
        (None, {"subject": 5}, "sweep", "sweep"),
        (None, {}, "sweep", "sweep"),
    ],
)
def test_a_sweep_is_called_as_given_or_after_its_file_or_its_first_subject(
    sweeps, config, name, former
):
    other = job(1, sweeps, **{**config, "subject": "another"})
    found = settings_from_jobs([job(0, sweeps, **config), other])
    assert (found.name, found.former_name) == (name, former)


def test_a_long_subject_gives_a_name_of_forty_characters_at_most():
    assert len(read({"subject": "very " * 30 + "long"}).name) <= 40


@pytest.mark.parametrize(
    ("seeds", "until", "is_fine"),
    [
        (["auto", "auto"], "a > 1", True),
        ([4, "0-3"], None, True),
        (["auto", "auto"], None, False),
        ([4, 4], "a > 1", False),
        (["auto", 4], "a > 1", False),
        ([4, "auto"], None, False),
    ],
)
def test_automatic_seeds_and_their_end_belong_together_in_every_job(seeds, until, is_fine):
    jobs = [{"seeds": each, "until": until} for each in seeds]
    if is_fine:
        assert read(*jobs).until == until
    else:
        with pytest.raises(ConfigError, match="belong together"):
            read(*jobs)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("lanczos", Upscale("lanczos", {}, None)),
        ({"model": "lanczos"}, Upscale("lanczos", {}, None)),
        ({"model": "x", "scale": 2, "per_cell": 1}, Upscale("x", {"scale": 2}, 1)),
    ],
)
def test_an_upscaler_is_named_alone_or_with_its_parameters(asked, expected):
    assert read({"upscale": asked}).upscale == expected


@pytest.mark.parametrize(
    "config",
    [
        *({"limit": value} for value in (0, -1, True, 2.0, "many", math.nan)),
        *({"reuse": value} for value in (1, "yes", None)),
        *({"allow_unknown_price": value} for value in (1, "yes", None)),
        *({"runs_dir": value} for value in ("", 5, None)),
        *({"budget": value} for value in (0, -1, True, "5", 0.0)),
        *({"score": value} for value in ([1], ["a", None])),
        *({"store": value} for value in (5, "fast", [1])),
        *({"upscale": value} for value in (5, ["a"], {"scale": 2}, {"model": 3})),
        *({"upscale": {"model": "x", "per_cell": value}} for value in (0, -1, True, 1.0, "1")),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(config):
    (key,) = config
    with pytest.raises(ConfigError, match=key):
        read({"subject": "x", **config})


def test_no_jobs_are_no_sweep():
    with pytest.raises(ConfigError, match="empty"):
        settings_from_jobs([])


@dataclass(frozen=True)
class Options:
    """A stage's options of each type."""

    count: int = 1
    wait_s: float = 2.0
    is_on: bool = False
    word: str | None = None


@pytest.mark.parametrize(
    ("values", "is_fine"),
    [
        ({}, True),
        ({"count": 3, "wait_s": 0.5, "is_on": True, "word": "x"}, True),
        ({"wait_s": 3, "word": None}, True),
        ({"count": True}, False),
        ({"count": 3.0}, False),
        ({"count": None}, False),
        ({"wait_s": True}, False),
        ({"wait_s": math.nan}, False),
        ({"wait_s": math.inf}, False),
        ({"is_on": 1}, False),
        ({"is_on": "true"}, False),
        ({"word": 5}, False),
        ({"unknown": 1}, False),
    ],
    ids=str,
)
def test_options_of_a_stage_have_its_names_and_types(values, is_fine):
    if is_fine:
        found = dataclasses.asdict(build_options(Options, "stage", values))
        assert found == {**dataclasses.asdict(Options()), **values}
    else:
        with pytest.raises(ConfigError, match=rf"stage\.{next(iter(values))}"):
            build_options(Options, "stage", values)


def test_inputs_of_a_workflows_nodes_are_keys_of_their_own_and_nothing_else_is():
    config = {"3": {"cfg": 1, "steps": 2}, 5: {"seed": 3}, "store": {"a": 1}, "7": "x"}
    flat = {"3.cfg": 1, "3.steps": 2, "5.seed": 3, "store": {"a": 1}, "7": "x"}
    assert with_node_inputs(config) == flat
