"""Model folders are written whole, checked, fingerprinted by content and read back."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from promptlab.errors import ModelError, WeightsMissingError
from promptlab.models.dalle import min_dalle_files, open_folder, open_min_dalle
from promptlab.models.dalle.config import CONFIG_FROM_SIZE, MIN_DALLE_MINI, read_config
from promptlab.models.dalle.weights import (
    check_shapes,
    expected_shapes,
    open_tensors,
    write_model_folder,
)
from tests.models.dalle.tiny_models import TINY, VOCAB, make_runner, random_requests, random_tensors


def test_a_folder_gives_back_config_and_tensors(tmp_path: Path) -> None:
    tensors = random_tensors(TINY)
    config = write_model_folder(tmp_path / "model", TINY, tensors, VOCAB)
    assert read_config(tmp_path / "model") == config
    assert dataclasses.replace(config, fingerprint="") == TINY
    with open_tensors(tmp_path / "model") as read:
        assert set(read) == set(tensors)
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_the_fingerprint_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    tensors = random_tensors(TINY)
    first = write_model_folder(tmp_path / "a", TINY, tensors, VOCAB).fingerprint
    assert len(first) == 16
    renamed = dataclasses.replace(TINY, name="other", fingerprint="0" * 16)
    assert write_model_folder(tmp_path / "b", renamed, tensors, VOCAB).fingerprint == first
    changed = {**tensors, "encoder.final_ln.bias": tensors["encoder.final_ln.bias"] + 1e-6}
    assert write_model_folder(tmp_path / "c", TINY, changed, VOCAB).fingerprint != first
    more_words = {**VOCAB, "zebra": 3}
    assert write_model_folder(tmp_path / "d", TINY, tensors, more_words).fingerprint != first


def test_a_folder_draws_what_its_tensors_draw(tmp_path: Path) -> None:
    write_model_folder(tmp_path / "model", TINY, random_tensors(TINY), VOCAB)
    model = open_folder(str(tmp_path / "model"), device="cpu", dtype="float32", batch_size=8)
    requests = random_requests(3, seed=7)
    model.load()
    pairs = zip(model.draw(requests), make_runner().draw(requests), strict=True)
    assert all(np.array_equal(ours.pixels, theirs.pixels) for ours, theirs in pairs)


def test_wrong_tensors_are_refused_by_name_and_leave_nothing(tmp_path: Path) -> None:
    tensors = random_tensors(TINY)
    tensors["decoder.lm_head.weight"] = tensors["decoder.lm_head.weight"][:, 1:]
    del tensors["encoder.final_ln.bias"]
    with pytest.raises(ModelError, match=r"final_ln.bias is missing.*lm_head.weight: expected"):
        write_model_folder(tmp_path / "model", TINY, tensors, VOCAB)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_model_before_all_of_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def fill_up(source: str, target: str) -> None:
        if target.endswith("vocab.json"):
            raise OSError("No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fill_up)
    with pytest.raises(OSError, match="No space left"):
        write_model_folder(tmp_path / "model", TINY, random_tensors(TINY), VOCAB)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.safetensors"]
    with pytest.raises(ModelError, match=r"config\.json"):
        read_config(tmp_path / "model")


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        open_folder(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text(TINY.to_json(), encoding="utf-8")
    with pytest.raises(WeightsMissingError, match=r"model\.safetensors"), open_tensors(tmp_path):
        pass


def test_the_sizes_of_mini_and_mega_are_those_of_min_dalle() -> None:
    millions = {
        size: {
            part: sum(
                int(np.prod(shape))
                for name, shape in expected_shapes(config).items()
                if name.startswith(f"{part}.")
            )
            / 1e6
            for part in ("encoder", "decoder", "detokenizer")
        }
        for size, config in CONFIG_FROM_SIZE.items()
    }
    assert round(millions["mini"]["encoder"]) == 203
    assert round(millions["mini"]["decoder"]) == 235
    assert round(millions["mini"]["detokenizer"]) == 47
    assert round(millions["mega"]["encoder"] + millions["mega"]["decoder"]) == 2588


@pytest.fixture
def small_mini(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder in min-dalle's layout that holds a "mini" of small sizes."""
    small = dataclasses.replace(
        TINY, name=MIN_DALLE_MINI.name, tokenizer="bpe", defaults=MIN_DALLE_MINI.defaults
    )
    monkeypatch.setitem(CONFIG_FROM_SIZE, "mini", small)
    monkeypatch.setenv("PROMPTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    files = min_dalle_files.local_files(tmp_path / "pretrained", "mini")
    for path in files.all():
        path.parent.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(small)
    for part in ("encoder", "decoder", "detokenizer"):
        state = {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{part}.")
        }
        torch.save(state, getattr(files, part))
    files.vocab.write_text(json.dumps(VOCAB), encoding="utf-8")
    files.merges.write_text("#version\nw 4\n", encoding="utf-8")
    return tmp_path / "pretrained"


def test_min_dalle_s_files_are_converted_once(small_mini: Path) -> None:
    model = open_min_dalle("mini", weights=str(small_mini), device="cpu")
    fingerprint = model.fingerprint
    weights_file = model.folder / "model.safetensors"
    written = weights_file.stat().st_mtime_ns
    again = open_min_dalle("mini", device="cpu")  # found in ./pretrained, without being named
    assert again.fingerprint == fingerprint
    assert again.folder == model.folder
    assert weights_file.stat().st_mtime_ns == written
    again.load()
    (result,) = again.draw(random_requests(1, seed=1))
    assert result.error is None
    assert result.pixels is not None


def test_changed_files_are_converted_anew(small_mini: Path) -> None:
    first = open_min_dalle("mini", device="cpu").fingerprint
    decoder = min_dalle_files.local_files(small_mini, "mini").decoder
    state = torch.load(decoder, weights_only=True)
    state["final_ln.bias"] += 1
    torch.save(state, decoder)
    os.utime(decoder, ns=(1, 1))
    assert open_min_dalle("mini", device="cpu").fingerprint != first


def test_code_in_a_checkpoint_is_never_run(small_mini: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"final_ln.bias": Evil()}, min_dalle_files.local_files(small_mini, "mini").decoder)
    with pytest.raises(ModelError, match="not a checkpoint of tensors"):
        _ = open_min_dalle("mini", device="cpu").fingerprint
    assert not (tmp_path / "ran").exists()


def test_missing_weights_are_explained_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PROMPTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMissingError) as caught:
        _ = open_min_dalle("mega").fingerprint
    message = str(caught.value)
    for expected in ("hf download kuprel/min-dalle", "dalle_bart_mega", "encoder.pt", "detoker.pt"):
        assert expected in message


def test_a_named_folder_that_lacks_files_is_explained(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"weights=.*encoder\.pt"):
        _ = open_min_dalle("mini", weights=str(tmp_path)).fingerprint


def test_random_tensors_are_those_that_the_config_asks_for() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in random_tensors(TINY).items()}
    check_shapes(TINY, shapes)
