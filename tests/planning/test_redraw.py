"""The printed command means exactly the image it was made from, whatever the prompt holds."""

import shlex
import shutil
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from promptlab.configs.quoting import quote, quote_for_shell
from promptlab.identity import canonical_json
from promptlab.planning.language import parse_pattern
from promptlab.planning.redraw import (
    RecordedModel,
    hydra_value,
    recorded_model,
    redraw_command,
    redraw_overrides,
)
from promptlab.records import IMPORTED
from promptlab.run_record import ModelRecord, RunRecord

NASTY = st.text(alphabet="ab'\"\\${}[](),=:|@#! \n\t🦊é_*%-~`;&<>", max_size=20)


def read_override(override):
    """Return the key and the value as a config holds it, interpolations resolved."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    config = OmegaConf.create({})
    OmegaConf.update(config, "value", parsed.value())
    return parsed.key_or_group, OmegaConf.to_container(config, resolve=True)["value"]


def make_row(prompt, **params):
    return {
        "model": "tiny",
        "prompt": prompt,
        "seed": 7,
        "dtype": "float32",
        "params": canonical_json(params),
    }


@given(NASTY)
def test_a_quoted_text_comes_back_from_hydra_as_it_was(text):
    assert read_override(f"subject={quote(text)}") == ("subject", text)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@settings(max_examples=25)
@example("it's a fox!it")
@given(st.text(alphabet="ab'\"\\$ \n\t\x1b\x07🦊é\u202e`!*", max_size=20))
def test_a_shell_reads_every_word_as_it_was_from_one_printable_line(word):
    line = quote_for_shell(word)
    assert line.isprintable()
    typed = f"set -o history -H\nprintf %s {line}\n"  # as at a prompt: ! recalls earlier lines
    done = subprocess.run(["bash"], input=typed.encode(), capture_output=True, check=True)
    assert done.stdout.decode() == word


@example("@prompts.txt")
@given(st.text(alphabet="ab'\"\\${}[](),=:|@#! 🦊é_*%-~`;&<>", max_size=20))
def test_the_command_survives_shell_hydra_and_the_pattern_language(prompt):
    words = shlex.split(redraw_command(make_row(prompt, temperature=0.7, top_k=None)))
    assert words[:2] == ["promptlab", "sweep"]
    values = dict(read_override(word) for word in words[2:])
    subject = values.pop("subject")
    assert not subject.startswith("@"), "the prompts of a file"
    pattern = parse_pattern(subject, "subject")
    assert "".join(item.text for item in pattern.items) == prompt
    assert values == {
        "model": "tiny",
        "template": "plain",
        "style": "none",
        "temperature": 0.7,
        "top_k": None,
        "seeds": [7],
    }


def test_what_differs_from_the_models_file_is_asked_for_and_devices_are_not():
    config = {
        "_target_": "promptlab.models.dalle.open_folder",
        "folder": "my models/a",
        "dtype": "auto",
        "device": "cuda",
        "batch_size": 64,
    }
    overrides = redraw_overrides(make_row("a fox"), RecordedModel("mine", "mine", config))
    assert "model=mine" in overrides
    assert "model.folder=my models/a" in overrides
    assert "model.dtype=float32" in overrides
    assert not any("device" in o or "batch_size" in o or "_target_" in o for o in overrides)


def test_the_name_of_a_model_is_asked_for_since_it_counts_in_the_id():
    config = {"_target_": "promptlab.models.http.open_comfyui", "name": "mine"}
    row = {**make_row("a fox"), "model": "mine"}
    overrides = redraw_overrides(row, RecordedModel("mine", "comfyui", config))
    assert overrides[0] == "model=comfyui"
    assert "model.name=mine" in overrides


def test_the_batch_size_that_shows_in_the_bits_is_asked_for():
    config = {"_target_": "mine.Model", "batch_size": None}
    overrides = redraw_overrides(make_row("a fox"), RecordedModel("mine", "mine", config, 4))
    assert "model.batch_size=4" in overrides


@example(["false", "true", "null", "nan", "inf", "Infinity"])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | NASTY,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_any_plain_value_comes_back_from_hydra(value):
    assert read_override(f"key={hydra_value(value)}")[1] == value


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("fox", "subject=fox"),
        ("a fox", "subject='a fox'"),
        ("a, b", """subject='"a, b"'"""),
        ("true", """subject='"true"'"""),
        ("Null", """subject='"Null"'"""),
        ("16:9", """subject='"16:9"'"""),
    ],
)
def test_only_what_needs_quotes_has_them(prompt, word):
    assert word in redraw_command(make_row(prompt))


def test_the_words_of_a_prompt_are_asked_for_where_they_are_known():
    words = {"template": "cctv", "style": "noto", "subject": "a fox", "action": "asleep"}
    command = redraw_command(make_row("cctv footage of a fox asleep"), words=words)
    assert "template=cctv style=noto subject='a fox' action=asleep " in command
    assert "footage" not in command


def test_an_image_that_was_drawn_elsewhere_has_no_command():
    command = redraw_command({**make_row("a fox"), "model": "an\nother", "device": IMPORTED})
    assert command.startswith("#")
    assert len(command.splitlines()) == 1


def test_a_redrawn_image_names_the_image_that_it_is_drawn_from():
    row = {**make_row("a fox"), "source_id": "0123456789abcdef"}
    assert 'parent="0123456789abcdef"' in redraw_overrides(row)


def test_the_recorded_model_of_a_row_is_the_one_of_its_weights_and_dtype():
    models = {
        "a": ModelRecord(name="tiny", fingerprint="f" * 16, dtype="float32", option="mine"),
        "b": ModelRecord(name="tiny", fingerprint="f" * 16, dtype="bfloat16", option="half"),
        "c": ModelRecord(name="old", fingerprint="e" * 16, dtype="float32"),
    }
    record = RunRecord(models=models, models_config={"b": {"dtype": "bfloat16"}})
    row = {"model": "tiny", "model_fingerprint": "f" * 16, "dtype": "bfloat16"}
    assert recorded_model(record, row) == RecordedModel("b", "half", {"dtype": "bfloat16"})
    assert recorded_model(record, {**row, "dtype": "float32"}) == RecordedModel("a", "mine", None)
    old = {**row, "model": "old", "model_fingerprint": "e" * 16}
    assert recorded_model(record, old) == RecordedModel("c", "old", None)
    assert recorded_model(record, {**row, "model_fingerprint": "0" * 16}) is None


def test_a_row_is_drawn_again_in_its_own_batch_size_whatever_a_later_session_drew_with():
    drawer = {"name": "tiny", "fingerprint": "f" * 16, "dtype": "float32"}
    row = {"model": "tiny", "model_fingerprint": "f" * 16, "dtype": "float32", "batch_size": 4}
    padded = recorded_model(RunRecord(models={"a": ModelRecord(**drawer, padded_batch=8)}), row)
    assert padded is not None
    assert padded.padded_batch == 4
    free = recorded_model(RunRecord(models={"a": ModelRecord(**drawer)}), row)
    assert free is not None
    assert free.padded_batch is None
