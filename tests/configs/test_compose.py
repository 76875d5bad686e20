"""The fast composition equals Hydra's own, job by job, and falls back to it where it must."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from promptlab.configs.compose import ComposingLoader
from promptlab.configs.locations import packaged_conf

OVERRIDES = [
    ["subject=a fox"],
    ["subject='a fox, running'"],
    ['subject="it is a \\"fox\\""'],
    ["subject=null"],
    ["subject=5"],
    ["subject=[a,b]"],
    ["seeds=[1,2,3]"],
    ["seeds=0-63"],
    ["style=art/ukiyo_e"],
    ["style=art/ukiyo_e", "template=cctv", "action=asleep"],
    ["action=asleep", "template=cctv"],
    ["template.pattern='two of {subject}'"],
    ["template.pattern='two of {subject}'", "template=cctv"],
    ["template={pattern:'two of {subject}'}"],
    ["+style@second=noto", "subject=x"],
    ["hydra.job.name=x", "top_k=3"],
    ["style.pattern='{prompt}, blurred'", "style=noto", "subject=x"],
    ["+place=here", "subject=x"],
    ["+place=here", "place=there"],
    ["temperature=1.5", "top_k=3"],
    ["temperature=1e-2"],
    ["temperature=1", "++temperature=2"],
    ["++temperature=2", "temperature=1"],
    ["~limit"],
    ["~store.flush_s"],
    ["store.embed_images=false", "tracking.uri='http://localhost:5000'"],
    ["tracking=null"],
    ["tracking={uri:x}"],
    ["store={embed_images:false}"],
    ["store=5"],
    ["model=min_dalle_mini", "temperature=0.5"],
    ["+sweeps=seeds", "subject=a fox"],
    ["+sweeps=seeds", "subject='${style.pattern}'"],
    ["subject='${name}'", "name=x"],
    ["subject='${.name}'", "name=x"],
    ["subject='a ${template.description}'"],
    ["subject='${hydra:job.num}'"],
    ["subject='${hydra.job.config_name}'", "top_k=3"],
    ["subject='${hydra.runtime.choices.style}'", "style=noto"],
    ["subject='\\${name}'"],
    ["subject='???'"],
    ["model.dtype=bfloat16", "model.batch_size=3"],
    ["report.rows=style", "report.thumbnail_px=100"],
    ["exclude=[{style:noto,subject:a fox}]"],
    ["subject='ünïcode 狐 🦊'"],
    ["subject=a  fox "],
]


@pytest.fixture(scope="module")
def hydras() -> tuple[ConfigLoaderImpl, DictConfig]:
    """Hydra's own loader and the master config of a multirun, which nobody changes."""
    setup_globals()
    OmegaConf.register_new_resolver("promptlab_scratch", lambda: "scratch", replace=True)
    stock = ConfigLoaderImpl(create_config_search_path(packaged_conf()))
    return stock, stock.load_configuration("promptlab", [], RunMode.MULTIRUN)


@pytest.fixture
def loaders(hydras: tuple, tmp_path: Path, hydra_restore_singletons: None) -> tuple:
    """Hydra's loader, a fast one that has composed nothing yet, and the master config."""
    setup_globals()
    OmegaConf.register_new_resolver("promptlab_scratch", lambda: str(tmp_path), replace=True)
    stock, master = hydras
    return stock, ComposingLoader(stock, master), master


def compose_by_hydra(
    stock: ConfigLoaderImpl, master: DictConfig, overrides: Sequence[str], number: int = 0
) -> dict:
    """Return a job's config as a launcher of Hydra would hand it to the task."""
    config = stock.load_sweep_config(master, list(overrides))
    with open_dict(config):
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
    previous = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    keys = [key for key in config if key != "hydra"]
    try:
        return {
            key: None
            if OmegaConf.is_missing(config, key)
            else OmegaConf.to_container(config[key], resolve=True)
            if OmegaConf.is_config(config[key])
            else config[key]
            for key in keys
        }
    finally:
        HydraConfig.instance().cfg = previous


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_a_job_is_composed_as_hydra_composes_it(loaders, overrides):
    stock, fast, master = loaders
    assert fast.compose_job(3, overrides).config == compose_by_hydra(stock, master, overrides, 3)


@pytest.mark.parametrize("overrides", OVERRIDES[::5], ids=" ".join)
def test_a_hydra_without_the_functions_of_the_short_cut_composes_the_same(
    loaders, monkeypatch, overrides
):
    stock, fast, master = loaders

    def miss(self, choices):
        raise AttributeError("another Hydra")

    monkeypatch.setattr(ComposingLoader, "_compose_without_hydra", miss)
    assert fast.compose_job(3, overrides).config == compose_by_hydra(stock, master, overrides, 3)


@pytest.mark.slow
def test_jobs_composed_one_after_the_other_do_not_touch_each_other(loaders):
    stock, fast, master = loaders
    jobs = [list(pair[0] + pair[1]) for pair in itertools.permutations(OVERRIDES[:18], 2)][::7]
    for number, overrides in enumerate(jobs):
        expected: object
        try:
            expected = compose_by_hydra(stock, master, overrides, number)
        except HydraException as error:
            with pytest.raises(type(error)):
                fast.compose_job(number, overrides)
            continue
        assert fast.compose_job(number, overrides).config == expected, overrides


@pytest.mark.parametrize(
    "overrides",
    [
        ["temprature=1"],
        ["style=notto"],
        ["store.embed=1"],
        ["+seeds=3"],
        ["~nothing"],
        ["~temperature"],
        ["subject=a,b"],
        ["subject='${nothing}'"],
        ["model.nothing.deep=1"],
        ["++style=art/ukiyo_e"],
    ],
    ids=" ".join,
)
def test_what_hydra_refuses_is_refused_with_the_same_message(loaders, overrides):
    stock, fast, master = loaders
    with pytest.raises(Exception) as by_hydra:  # noqa: PT011
        compose_by_hydra(stock, master, overrides)
    with pytest.raises(type(by_hydra.value)) as by_us:
        fast.compose_job(0, overrides)
    assert str(by_us.value) == str(by_hydra.value)


def test_a_job_takes_nothing_from_the_jobs_before_it(tmp_path, loaders):
    stock, _, _ = loaders
    (tmp_path / "sweeps").mkdir()
    text = "# @package _global_\nstore: {part_rows: 7}\nmodel: {dtype: bfloat16}\n"
    (tmp_path / "sweeps" / "mine.yaml").write_text(text)
    searched = f"hydra.searchpath=[file://{tmp_path}]"
    master = stock.load_configuration("promptlab", [searched], RunMode.MULTIRUN)
    fast = ComposingLoader(stock, master)
    hydra_config = HydraConfig.instance().cfg
    jobs = [
        ["+sweeps=mine", "subject=a"],
        ["subject='${hydra:job.num} b'"],
        ["subject=c", "top_k=3"],
        ["subject=d", "store.flush_s=1", "~limit"],
        ["subject=e"],
        ["store.part_rows=9", "subject=f"],
        ["template=cctv", "action=asleep"],
        ["+sweeps=mine", "top_k=4"],
        ["subject=g", "store.embed_images=false"],
    ]
    expected = [compose_by_hydra(stock, master, job, n) for n, job in enumerate(jobs)]
    found = [fast.compose_job(number, job) for number, job in enumerate(jobs)]
    assert [job.config for job in found] == expected
    assert HydraConfig.instance().cfg is hydra_config


def test_what_a_resolver_said_once_it_says_to_every_job(loaders):
    """As Hydra does: `now` is the time of the whole multirun."""
    _, fast, master = loaders
    said = itertools.count()
    OmegaConf.register_new_resolver("tick", lambda: next(said), use_cache=True)
    asked = OmegaConf.create({"x": "${tick:}"})
    assert asked.x == 0
    OmegaConf.copy_cache(asked, master)
    for number in range(2):
        job = fast.compose_job(number, ["subject='${tick:}'", f"seeds={number + 1}"])
        assert job.config["subject"] == 0


def test_choices_and_override_values_are_kept_for_the_axes(loaders):
    _, fast, _ = loaders
    job = fast.compose_job(1, ["style=art/monet", "subject=a fox", "temperature=0.5"])
    assert job.values == {"style": "art/monet", "subject": "a fox", "temperature": 0.5}
    assert list(job.values) == ["style", "subject", "temperature"]
    assert job.choices["style"] == "art/monet"
    assert job.choices["model"] == "tiny"


def test_a_glob_sees_what_hydra_searchpath_adds_and_leaves_out_none(tmp_path, loaders):
    stock, _, _ = loaders
    (tmp_path / "style").mkdir()
    (tmp_path / "style" / "mine.yaml").write_text("pattern: my {prompt}")
    override = f"hydra.searchpath=[file://{tmp_path}]"
    master = stock.load_configuration("promptlab", [override], RunMode.MULTIRUN)
    options = ComposingLoader(stock, master).get_group_options("style")
    assert "mine" in options
    assert "noto" in options
    assert "none" not in options
    assert ComposingLoader(stock, master).compose_job(0, ["style=mine"]).config["style"] == {
        "pattern": "my {prompt}"
    }
