"""A folder that diffusers saved, from the command line to the sheet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from promptlab.errors import ModelError, ModelLostError
from promptlab.models.diffusers import open_pipeline
from promptlab.store import read_run
from tests.conftest import Project
from tests.models.diffusers.conftest import Opened

SMALL = ("steps=2", "width=32", "height=32", "tracking=null")
Sweep = Callable[..., Any]


@pytest.fixture
def sweep(project: Project, build) -> Sweep:
    """Return a function that sweeps over a family's pipeline in this process."""

    def run(family: str, *arguments: str, batch_size: int | None = 2) -> Any:
        from promptlab.cli import main

        chosen = [f"model.path={build(family)}", f"model.batch_size={batch_size or 'null'}"]
        project.capsys.readouterr()
        code = main(["sweep", "-m", "model=diffusers", *chosen, *SMALL, *arguments])
        return code, *project.capsys.readouterr()

    return run


def test_a_folder_that_diffusers_saved_becomes_a_sheet(project, sweep):
    code, _, err = sweep("sd15", "subject=a fox,a robot", "style=noto,none", "seeds=3")
    assert code == 0, err
    rows = project.rows()
    assert len(rows) == 12
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["model"] for row in rows} == {"sd15"}
    assert {row["batch_size"] for row in rows} == {2}
    assert len({row["sha256"] for row in rows}) == 12
    assert (project.runs[-1] / "index.html").is_file()


def test_a_sweep_opens_no_socket(project, sweep, monkeypatch, build_lora):
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    lora = build_lora("sd3", 1)
    code, _, err = sweep("sd3", "subject=a fox", f"lora={lora}", "lora_scale=0,1")
    assert code == 0, err
    assert [row["status"] for row in project.rows()] == ["ok", "ok"]


def test_lora_scale_0_is_the_base_models_image_in_its_own_cell(project, sweep, build_lora, load):
    files = [str(build_lora("sd15", seed)) for seed in (1, 2)]
    code, _, err = sweep("sd15", "subject=a fox", f"lora={','.join(files)}", "lora_scale=0,0.5")
    assert code == 0, err
    rows = {(row["lora"], row["lora_scale"]): row for row in project.rows()}
    assert rows.keys() == {(file, scale) for file in files for scale in (0.0, 0.5)}
    assert len({row["sha256"] for row in rows.values()}) == 3
    opened = load("sd15", batch_size=2)
    base = opened.request("a fox")
    assert {rows[file, 0.0]["image_id"] for file in files} == {base.image_id}
    sha256 = hashlib.sha256(opened.pixels(base)[0]).hexdigest()
    assert {rows[file, 0.0]["sha256"] for file in files} == {sha256}


def test_a_lora_that_does_not_fit_fails_its_rows_alone_and_leaves_nothing_behind(load, build_lora):
    opened = load("sd15")
    fits, other = build_lora("sd15", 1), build_lora("sdxl", 1)
    good = [opened.request("a fox", seed, lora=lora) for lora in ("", str(fits)) for seed in (0, 1)]
    before = opened.pixels(*good)
    bad = [opened.request("a fox", seed, lora=str(other)) for seed in (0, 1)]
    results = opened.draw(*good[:2], *bad, *good[2:])
    assert all(results[request.image_id].error for request in bad)
    assert [results[request.image_id].pixels.tobytes() for request in good] == before
    assert opened.pixels(*good) == before


def test_verify_and_show_hold_for_a_chosen_and_for_a_given_batch_size(project, sweep):
    from promptlab.cli import main

    code, _, err = sweep("sd3", "subject=a fox", "seeds=3", "guidance_scale=1,4")
    assert code == 0, err
    first = {row["image_id"]: row["sha256"] for row in project.rows()}
    assert main(["verify", str(project.runs[-1]), "--sample", "6"]) == 0
    image_id = next(iter(first))
    project.capsys.readouterr()
    assert main(["show", image_id]) == 0
    assert "padded_batch=2" in project.capsys.readouterr().out
    code, _, err = sweep("sd3", "subject=a fox", "seeds=3", "guidance_scale=1,4", batch_size=1)
    assert code == 0, err
    assert not first.keys() & {row["image_id"] for row in project.rows()}


@pytest.mark.slow
def test_killed_in_the_middle_a_sweep_is_finished_by_the_same_command(project, build):
    from promptlab.cli import main

    arguments = ("sweep", "-m", "model=diffusers", f"model.path={build('sd15')}")
    arguments += ("subject=a fox", "seeds=24", "store.part_rows=4", *SMALL)
    process = project.start(*arguments)
    try:
        deadline = time.monotonic() + 200
        while not list(project.path.glob("runs/*/images.parquet/part-*.parquet")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    (run,) = project.runs
    kept = {row["image_id"]: row["sha256"] for row in read_run(str(run)).rows()}
    assert 0 < len(kept) < 24
    assert main(list(arguments)) == 0
    assert project.runs == [run]
    rows = {row["image_id"]: row for row in project.rows()}
    assert len(rows) == 24
    assert {key: rows[key]["sha256"] for key in kept} == kept


def test_each_distinct_prompt_is_encoded_once(load):
    opened = load("flux")
    opened.draw(opened.request("the first of its size, after a trial"))
    encoder = opened.model._painter._pipeline.text_encoder_2
    calls = []
    hook = encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        requests = [
            opened.request(prompt, seed, true_cfg_scale=2.0, negative_prompt="blurry once")
            for prompt in ("a new fox", "a new robot")
            for seed in range(4)
        ]
        opened.draw(*requests)
        opened.draw(*requests)
    finally:
        hook.remove()
    assert len(calls) == 3  # two prompts, one negative


def test_what_no_encoder_reads_of_a_prompt_is_reported(load):
    opened = load("sd15")
    (short,) = opened.draw(opened.request("a fox")).values()
    (long,) = opened.draw(opened.request("x" * 75 + " and a snail")).values()
    assert (short.is_prompt_truncated, short.unseen) == (False, "")
    assert (long.is_prompt_truncated, long.unseen) == (True, "and a snail")
    other = load("flux")
    (read,) = other.draw(other.request("x" * 75 + " and a snail")).values()
    assert read.unseen == ""  # T5 reads it


def test_a_prompt_that_cannot_be_encoded_fails_alone(load):
    opened = load("sd15")
    good = [opened.request("a fox", seed) for seed in range(3)]
    bad = opened.request(7)  # no text: what a tokenizer refuses
    results = opened.draw(good[0], bad, *good[1:])
    assert [results[each.image_id].error for each in good] == [None] * 3
    assert results[bad.image_id].error
    assert [results[each.image_id].pixels.tobytes() for each in good] == opened.pixels(*good)


def test_out_of_memory_fails_the_rows_of_a_batch_and_names_the_size_to_set(load, build):
    import torch

    opened = load("sd15", batch_size=4)
    small, large = opened.request("a fox"), opened.request("a fox", width=64, height=64)

    def refuse(_: object, arguments: tuple[Any, ...]) -> None:
        if arguments[0].shape[-1] * arguments[0].shape[0] > 8 * 8:  # latents: 4 images, guided
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = opened.model._painter._pipeline.unet.register_forward_pre_hook(refuse)
    try:
        results = opened.draw(large, small)
    finally:
        hook.remove()
    error = results[large.image_id].error
    assert error == ("out of memory with 4 images of 64×64 px in a batch: set padded_batch=2")
    assert results[small.image_id].error is None
    assert results[small.image_id].batch_size == 4  # nothing is halved: that would change its bits


@pytest.fixture
def batches(monkeypatch) -> list[int]:
    """Let eight images be a fast batch, and memory suffice for two; return the batches' sizes."""
    import torch
    from diffusers import UNet2DConditionModel

    from promptlab.models.diffusers import model as module

    real, found = UNet2DConditionModel.forward, []

    def forward(self: Any, sample: Any, *arguments: Any, **options: Any) -> Any:
        found.append(len(sample) // 2)  # half of it is for the guidance
        if found[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(self, sample, *arguments, **options)

    monkeypatch.setattr(UNet2DConditionModel, "forward", forward)
    monkeypatch.setattr(module, "CPU_BATCH", 8)
    return found


def test_a_trial_that_runs_out_of_memory_halves_the_batch_before_anything_is_drawn(
    project, sweep, batches
):
    from promptlab.cli import main

    code, _, err = sweep("sd15", "subject=a fox,a robot", "seeds=3", batch_size=None)
    assert code == 0, err
    assert "8 images of 32×32 px do not fit" in (project.runs[0] / "sweep.log").read_text()
    assert batches[:2] == [8, 4]
    assert set(batches[2:]) == {2}
    rows = project.rows()
    assert [row["status"] for row in rows] == ["ok"] * 6
    sizes = {(row["batch_size"], json.loads(row["params"])["padded_batch"]) for row in rows}
    assert sizes == {(2, 2)}
    assert len(project.runs) == 1
    drawn = len(batches)
    code, _, err = sweep("sd15", "subject=a fox,a robot", "seeds=3", batch_size=None)
    assert (code, len(batches), len(project.runs)) == (0, drawn, 1)
    assert main(["verify", str(project.runs[-1])]) == 0


def test_a_batch_that_cannot_be_remembered_fails_its_rows(
    project, sweep, batches, tmp_path, monkeypatch
):
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("PROMPTLAB_CACHE", str(tmp_path / "no folder"))
    assert sweep("sd15", "subject=a fox", batch_size=None)[0] == 1
    (row,) = project.rows()
    assert row["error"].endswith("in a batch: set padded_batch=4")


def test_a_batch_that_was_asked_for_is_not_halved(load):
    import torch

    opened = load("sd15", batch_size=2)

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = opened.model._painter._pipeline.unet.register_forward_pre_hook(refuse)
    try:
        requests = [opened.request("a fox", width=24), opened.request("a fox", padded_batch=4)]
        results = opened.draw(*requests)
    finally:
        hook.remove()
    errors = [results[request.image_id].error for request in requests]
    assert errors == [
        "out of memory with 2 images of 24×32 px in a batch: set padded_batch=1",
        "out of memory with 4 images of 32×32 px in a batch: set padded_batch=2",
    ]


def test_whether_images_repeat_is_recorded_as_it_was_seen(project, sweep, monkeypatch):
    from promptlab.cli import main
    from promptlab.models.diffusers.painter import Painter

    def seen() -> set[bool | None]:
        return {m.is_deterministic for m in read_run(str(project.runs[-1])).record.models.values()}

    assert sweep("sd15", "subject=a fox")[0] == 0
    assert seen() == {True}
    assert sweep("sd15", "subject=a fox")[0] == 0  # nothing is drawn: nothing else is known
    assert seen() == {True}
    monkeypatch.setattr(Painter, "is_exact", lambda *_: False)
    assert sweep("sd15", "subject=a robot")[0] == 0
    assert seen() == {False}
    project.capsys.readouterr()
    assert main(["verify", str(project.runs[-1])]) == 0
    assert "promises no equal pixels" in project.capsys.readouterr().out


def test_a_device_that_is_lost_ends_the_drawing(load):
    opened = load("sd15")

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    hook = opened.model._painter._pipeline.unet.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ModelLostError):
            opened.draw(opened.request("a fox"), opened.request("a robot"))
    finally:
        hook.remove()


def test_a_pipeline_of_no_listed_family_is_drawn_one_prompt_a_batch(build, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(build("sd15"), folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionPAGPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    model = open_pipeline(str(folder), batch_size=2)
    assert model.family.name == "other"
    model.load()
    opened = Opened(model)
    requests = [opened.request(prompt, seed) for prompt in ("a fox", "a robot") for seed in (0, 1)]
    alone = [opened.pixels(request)[0] for request in requests]
    assert opened.pixels(*requests[::-1]) == alone[::-1]
    assert len(set(alone)) == 4


def test_a_single_file_needs_the_folder_of_its_configs_and_no_network(build, tmp_path):
    import torch
    from safetensors.torch import save_file

    file = tmp_path / "mine.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    model = open_pipeline(str(file), config=str(build("sd15")))
    assert model.name == "mine"
    with pytest.raises(ModelError, match="cannot be loaded"):
        model.load()


def test_weights_that_do_not_match_their_config_are_one_clear_message(build, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(build("sd15"), folder)
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps({**config, "block_out_channels": [8, 16]}))
    with pytest.raises(ModelError, match=r"pipeline in .*broken cannot be loaded"):
        open_pipeline(str(folder)).load()


def test_decoding_in_tiles_is_another_image_with_another_id(load):
    whole, tiled = load("sd15"), load("sd15", memory="low")
    requests = [opened.request("a fox", width=64, height=64) for opened in (whole, tiled)]
    assert requests[0].image_id != requests[1].image_id
    assert whole.pixels(requests[0]) != tiled.pixels(requests[1])


def test_parts_of_a_loaded_pipeline_serve_image_to_image(load):
    from diffusers import AutoPipelineForImage2Image

    pipeline = load("sd15").model._painter._pipeline
    other = AutoPipelineForImage2Image.from_pipe(pipeline)
    assert other.unet is pipeline.unet
