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


def options(**stages: Mapping[str, object] | None) -> StageOptions:
    return StageOptions(Settings(name="x", stages=stages))


def test_config_keys_and_stages_are_the_same_and_all_have_their_defaults_in_conf():
    root = yaml.safe_load(Path(packaged_conf(), "promptlab.yaml").read_text(encoding="utf-8"))
    blocks = [key for key, value in root.items() if isinstance(value, dict) and key != "hydra"]
    assert tuple(STAGES) == keys_of("stage") == tuple(blocks)
    assert KEYS.keys() - {"template", "style", "model"} == root.keys() - {"defaults", "hydra"}


def test_the_defaults_in_conf_are_those_of_the_code():
    root = yaml.safe_load(Path(packaged_conf(), "promptlab.yaml").read_text(encoding="utf-8"))
    for key, kind in STAGES.items():
        assert options(**{key: root[key]})[kind] == options()[kind]


def test_null_turns_a_stage_off_that_can_be_and_means_the_defaults_elsewhere():
    assert not options(tracking=None)[TrackingOptions].enabled
    assert not options(tracking={"enabled": False})[TrackingOptions].enabled
    assert options(store=None)[StoreOptions] == options()[StoreOptions]
    assert options(report=None)[ReportOptions] == options()[ReportOptions]


def test_an_unknown_option_lists_the_known_ones():
    assert options(tracking={"uri": "http://there"})[TrackingOptions].uri == "http://there"
    with pytest.raises(ConfigError, match=r"tracking\.url.*tracking\.uri"):
        options(tracking={"url": "http://there"})
