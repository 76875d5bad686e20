"""The stages' options: one table says which there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from promptlab.configs.locations import packaged_conf
from promptlab.configs.settings import KEYS, Settings, keys_of
from promptlab.errors import ConfigError
from promptlab.flow.stages import STAGES, StageOptions
from promptlab.report import ReportOptions
from promptlab.store import StoreOptions
from promptlab.tracking import TrackingOptions
from promptlab.workers import WorkerOptions
from promptlab.workers.options import KINDS


def options(**stages: Mapping[str, object] | None) -> StageOptions:
    return StageOptions(Settings(name="x", stages=stages))


def test_config_keys_and_stages_are_the_same_and_all_have_their_defaults_in_conf():
    root = yaml.safe_load(Path(packaged_conf(), "promptlab.yaml").read_text(encoding="utf-8"))
    blocks = [key for key, value in root.items() if isinstance(value, dict) and key != "hydra"]
    groups = {key for entry in root["defaults"] if isinstance(entry, dict) for key in entry}
    assert tuple(STAGES) == keys_of("stage") == (*blocks, "workers")
    assert KEYS.keys() - groups == root.keys() - {"defaults", "hydra"}
    assert KEYS.keys() & groups == {"template", "style", "model", "workers"}


def test_the_defaults_in_conf_are_those_of_the_code():
    root = yaml.safe_load(Path(packaged_conf(), "promptlab.yaml").read_text(encoding="utf-8"))
    root["workers"] = yaml.safe_load(Path(packaged_conf(), "workers/auto.yaml").read_text())
    for key, kind in STAGES.items():
        assert options(**{key: root[key]})[kind] == options()[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_workers_has_its_file_with_the_defaults_of_the_code(kind):
    values = yaml.safe_load(Path(packaged_conf(), f"workers/{kind}.yaml").read_text())
    assert options(workers=values)[WorkerOptions] == WorkerOptions(kind=kind)


def test_null_turns_a_stage_off_that_can_be_and_means_the_defaults_elsewhere():
    assert not options(tracking=None)[TrackingOptions].enabled
    assert not options(tracking={"enabled": False})[TrackingOptions].enabled
    assert options(store=None)[StoreOptions] == options()[StoreOptions]
    assert options(report=None)[ReportOptions] == options()[ReportOptions]


def test_an_unknown_option_lists_the_known_ones():
    assert options(tracking={"uri": "http://there"})[TrackingOptions].uri == "http://there"
    with pytest.raises(ConfigError, match=r"tracking\.url.*tracking\.uri"):
        options(tracking={"url": "http://there"})
