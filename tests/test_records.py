"""sweep.yaml comes back as it was written, whichever version wrote it."""

from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promptlab.identity import escape_surrogates
from promptlab.records import CELL_COLUMNS, FACT_COLUMNS, ROW_COLUMNS, WorkerShare
from promptlab.run_record import ModelRecord, RunRecord

RECORD = RunRecord(
    schema_version=1,
    run_id="0123456789abcdef",
    created_at="2026-11-22T22:00:00+00:00",
    command=("promptlab", "sweep", "subject=a fox"),
    argv=("subject=a fox",),
    config={"subject": "a fox", "tracking": {"enabled": False}, "seeds": [1, 2]},
    axes={"subject": ("a fox", "été"), "temperature": (0.5, 1)},
    models={"tiny": ModelRecord(option="tiny", name="tiny", image_size=(160, 160))},
    samples={"animal": ("a fox", "an owl")},
    subject_axes=("animal",),
    models_config={"tiny": {"_target_": "tiny", "sizes": [1, 2]}},
    workers={"gpu 0": WorkerShare(images=3, seconds=1.5, restarts=1)},
    further={"a_key_of_a_newer_version": [1, {"x": "y"}]},
)
OLD = """
run_id: 0123456789abcdef
sweep: foxes
axes: {style: [noto, openmoji], light: null}
models:
  tiny: {name: tiny, fingerprint: abc, dtype: float32, device: cpu, image_size: [160, 160]}
git: null
"""


def test_a_record_comes_back_as_it_was_written():
    assert RunRecord.from_yaml(RECORD.to_yaml()) == RECORD
    assert yaml.safe_load(RECORD.to_yaml()) == RECORD.to_plain()


@given(st.text(st.characters(codec=None), max_size=5))
@example("\x85\u2028\u2029")  # line ends of YAML
@example("\udce9")
@settings(max_examples=15)
def test_any_text_in_a_record_is_written_as_utf_8_and_stays_what_it_was_if_it_is_utf_8(text):
    record = replace(
        RECORD,
        sweep=text,
        command=(text,),
        config={f"key {text}": {"prompt": text, "list": [text]}},
        axes={"subject": (text,)},
        models={"tiny": ModelRecord(name=text)},
    )
    found = RunRecord.from_yaml(record.to_yaml().encode("utf-8"))
    if text == escape_surrogates(text):
        assert found == record
    assert RunRecord.from_yaml(found.to_yaml()) == found


def test_what_a_newer_version_says_of_models_and_workers_does_no_harm():
    model = {"name": "tiny", "image_size": [160, 160], "colour_space": "sRGB", "dtype": None}
    text = yaml.safe_dump({"models": {"tiny": model}, "workers": {"gpu": {"images": 2, "heat": 9}}})
    record = RunRecord.from_yaml(text)
    assert record.models == {"tiny": ModelRecord(name="tiny", image_size=(160, 160))}
    assert record.workers == {"gpu": WorkerShare(images=2)}


def test_a_record_of_before_has_the_defaults_of_what_it_lacks():
    record = RunRecord.from_yaml(OLD)
    assert (record.sweep, record.argv, record.samples, record.git) == ("foxes", None, {}, None)
    assert record.axes == {"style": ("noto", "openmoji"), "light": ()}
    model = record.models["tiny"]
    assert (model.fingerprint, model.option, model.is_deterministic) == ("abc", "", None)
    assert RunRecord.from_yaml("") == RunRecord()


@pytest.mark.parametrize("text", ["- a list", "a: b: c", "models: 3", "axes: [1]", "\0"])
def test_a_text_that_holds_no_record_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\w"):
        RunRecord.from_yaml(text)


def test_a_row_is_its_image_id_the_cells_columns_and_the_images_facts():
    assert list(ROW_COLUMNS) == ["image_id", *CELL_COLUMNS, *FACT_COLUMNS]
    assert len(ROW_COLUMNS) == 1 + len(CELL_COLUMNS) + len(FACT_COLUMNS)
