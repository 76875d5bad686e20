"""A folder of other tools' images becomes a run: prompts, seeds and parameters as they say them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptlab.errors import ReportError
from promptlab.flow.importing import import_folder
from promptlab.png import hash_pixels
from promptlab.store import read_run
from tests.conftest import Project

pytest.importorskip("sd_parsers", reason="the extra promptlab[import] is not installed")


def picture(number: int, mode: str = "RGB") -> Image.Image:
    """Return an image that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def save_png(path: Path, image: Image.Image, **texts: str) -> None:
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, pnginfo=info)


A1111 = (
    "a fox, (red:1.2), line\nsecond line\nNegative prompt: blurry, {seed}\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: {cfg}, Seed: {seed}, "
    "Size: 32x24, Model hash: 31e35c80fc, Model: sd_xl_base_1.0, Version: v1.10.1"
)


def comfy(seed: int, text: str = "an owl") -> str:
    graph: dict[str, Any] = {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                **{"seed": seed, "steps": 8, "cfg": 1.5, "sampler_name": "euler"},
                **{"scheduler": "normal", "denoise": 1, "model": ["4", 0]},
                **{"positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]},
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "flux.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 32, "height": 24}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["4", 1]}},
    }
    return json.dumps(graph)


INVOKE = json.dumps(
    {
        "generation_mode": "txt2img",
        "positive_prompt": "a robot",
        "negative_prompt": "",
        "seed": 77,
        "steps": 30,
        "cfg_scale": 7.5,
        "scheduler": "euler",
        "model": {"name": "juggernaut", "hash": "abc", "base": "sdxl", "type": "main"},
    }
)


def hash_files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_images_of_three_tools_and_our_own_become_one_run(project: Project):
    project.run("sweep", "subject=a cat", "seeds=1")
    old = project.path / "old"
    for seed in (1, 2):
        for cfg in (5, 7.5):
            text = A1111.replace("{seed}", str(seed)).replace("{cfg}", str(cfg))
            save_png(old / "web" / f"{seed}_{cfg}.png", picture(seed + int(cfg)), parameters=text)
    save_png(old / "comfy.png", picture(20), prompt=comfy(4), workflow="{}")
    save_png(old / "invoke.png", picture(21), invokeai_metadata=INVOKE)
    (own,) = (project.runs[-1] / "images").glob("*.png")
    (old / "own.png").write_bytes(own.read_bytes())
    before = hash_files(old)
    done = import_folder(str(old))
    assert done.num_new == 7
    assert done.tools == {"AUTOMATIC1111": 4, "ComfyUI": 1, "InvokeAI": 1, "promptlab": 1}
    assert hash_files(old) == before
    rows = {(row["prompt"], row["seed"], row["model"]) for row in project.rows()}
    fox = "a fox, (red:1.2), line\nsecond line"
    assert rows == {
        *((fox, seed, "sd_xl_base_1.0") for seed in (1, 2)),
        ("an owl", 4, "flux"),
        ("a robot", 77, "juggernaut"),
        ("a cat", 0, "paint"),
    }
    params = [json.loads(row["params"]) for row in project.rows() if row["prompt"] == fox]
    assert {p["guidance_scale"] for p in params} == {5, 7.5}
    assert {p["negative_prompt"] for p in params} == {"blurry, 1", "blurry, 2"}
    assert {(p["steps"], p["sampler"], p["scheduler"]) for p in params} == {
        (20, "DPM++ 2M", "Karras")
    }


def test_what_varies_is_an_axis_of_the_sheet_and_pixels_stay(project: Project):
    old = project.path / "old"
    for seed, cfg in ((1, 5), (2, 5), (1, 9), (2, 9)):
        text = A1111.replace("blurry, {seed}", "").replace("{seed}", str(seed))
        image = picture(10 * cfg + seed)
        save_png(old / f"{seed}_{cfg}.png", image, parameters=text.replace("{cfg}", str(cfg)))
    run = read_run(import_folder(str(old)).paths.root)
    assert {"guidance_scale": (5, 9), "seed": (1, 2)}.items() <= dict(run.record.axes).items()
    for row in run.rows():
        png = run.image_bytes(row["image_id"])
        assert png is not None
        with Image.open(project.path / run.paths.join(row["path"])) as stored:
            expected = picture(10 * row["guidance_scale"] + row["seed"])
            assert np.array_equal(np.asarray(stored), np.asarray(expected))
    assert (Path(run.paths.root) / "index.html").exists()


def test_the_same_folder_again_adds_what_is_new(project: Project):
    old = project.path / "old"
    save_png(old / "a.png", picture(1), prompt=comfy(1))
    assert import_folder(str(old)).num_new == 1
    save_png(old / "b.png", picture(2), prompt=comfy(2))
    again = import_folder(str(old))
    assert (again.num_new, again.num_known) == (1, 1)
    assert len(project.runs) == 1
    assert len(project.rows()) == 2


def test_files_without_metadata_are_kept_with_numbers_for_seeds(project: Project):
    old = project.path / "old"
    for number in range(3):
        save_png(old / f"{number}.png", picture(number))
    picture(9).save(old / "photo.jpg", quality=95)
    picture(8, "RGBA").save(old / "clear.webp", lossless=True)
    assert import_folder(str(old)).tools == {"": 5}
    assert sorted(row["seed"] for row in project.rows()) == [0, 1, 2, 3, 4]
    assert {row["prompt"] for row in project.rows()} == {""}


def test_equal_pictures_count_once_and_different_ones_of_a_seed_are_all_kept(project: Project):
    old = project.path / "old"
    save_png(old / "a.png", picture(1), prompt=comfy(1))
    save_png(old / "b.png", picture(1), prompt=comfy(1))
    save_png(old / "c.png", picture(2), prompt=comfy(1))
    done = import_folder(str(old))
    assert done.num_new == 2
    assert {path.name for path in done.copies} == {"b.png"}
    assert len({row["sha256"] for row in project.rows()}) == 2


def test_damaged_and_hostile_files_are_left_out_and_listed(project: Project):
    old = project.path / "old"
    save_png(old / "good.png", picture(1), parameters="<script>alert(1)</script>\x07\nSteps: x")
    whole = (old / "good.png").read_bytes()
    (old / "cut.png").write_bytes(whole[: len(whole) // 2])
    (old / "empty.png").write_bytes(b"")
    (old / "text.jpg").write_text("no image")
    (old / "._good.png").write_bytes(b"\x00\x05\x16\x07")
    bomb = bytearray(whole)
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    (old / "bomb.png").write_bytes(bomb)
    save_png(old / "graph.png", picture(3), prompt='{"3": {"class_type": ["KSampler"]}}')
    save_png(old / "deep.png", picture(4), prompt="[" * 100_000)
    save_png(old / "seed.png", picture(5), prompt=comfy(-(10**30), "big\x00seed"))
    done = import_folder(str(old))
    assert {path.name for path in done.problems} == {"cut.png", "empty.png", "text.jpg", "bomb.png"}
    assert done.num_new == 4
    page = (Path(done.paths.root) / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    with open(done.paths.join("imported.csv"), encoding="utf-8", newline="") as file:
        listed = {row["file"]: row for row in csv.DictReader(file)}
    assert len(listed) == 8
    assert listed["good.png"]["image_id"]
    assert "cannot be read" in listed["cut.png"]["left_out_because"]


def test_the_verbs_work_on_an_imported_run(project: Project):
    save_png(project.path / "old" / "a.png", picture(1), prompt=comfy(1))
    done = project.run("import", "old")
    assert done.code == 0
    assert "1 image imported" in done.out
    assert "1 file of ComfyUI" in done.out
    image_id = project.rows()[0]["image_id"]
    assert "# imported: flux drew it elsewhere" in project.run("show", image_id).out
    assert project.run("pick", image_id, "--favourite", "--no-sync").code == 0
    verified = project.run("verify", str(project.runs[-1]))
    assert verified.code == 0
    assert "promises no equal pixels" in verified.out
    again = project.run("sweep", "--from-picks", str(project.runs[-1]))
    assert again.code == 1
    assert "Traceback" not in again.err


def test_a_folder_without_images_is_one_message(project: Project):
    project.write("old/notes.txt", "nothing")
    with pytest.raises(ReportError, match="holds no image: expected a folder with"):
        import_folder("old")


def test_a_seed_that_a_file_names_is_kept_for_it_before_others_get_numbers(project: Project):
    old = project.path / "old"
    save_png(old / "a.png", picture(1))  # without a seed, and first by name
    facts = {"prompt": "", "seed": 0, "model": "unknown", "model_fingerprint": "", "params": {}}
    save_png(old / "b.png", picture(2), promptlab=json.dumps(facts))
    import_folder(str(old))
    expected = {0: hash_pixels(np.asarray(picture(2))), 1: hash_pixels(np.asarray(picture(1)))}
    assert {row["seed"]: row["sha256"] for row in project.rows()} == expected


def test_what_a_folder_hides_is_not_imported_and_a_file_keeps_its_time(project: Project):
    old = project.path / "old"
    for name in (".hidden.png", ".thumbs/a.png", "__MACOSX/a.png", "__MACOSX_x/a.png"):
        save_png(old / name, picture(1))
    save_png(old / "in" / "A.PNG", picture(2))
    os.utime(old / "in" / "A.PNG", (1e9, 1e9))
    done = import_folder(str(old))
    (row,) = project.rows()
    assert row["created_at"].timestamp() == 1e9
    assert (row["device"], row["seconds"], row["batch_size"]) == ("imported", 0.0, 1)
    listed = Path(done.paths.join("imported.csv")).read_text(encoding="utf-8").splitlines()
    assert listed[1:] == [f"in/A.PNG,{row['image_id']},"]


def test_a_parameter_of_too_many_values_is_no_axis_but_stays_a_parameter(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("promptlab.flow.importing.MAX_AXIS_VALUES", 2)
    old = project.path / "old"
    facts = {"prompt": "a fox", "seed": 1, "model": "m", "model_fingerprint": ""}
    for number in range(3):
        params = {"steps": number, "scale": number % 2, "size": 1}
        label = json.dumps({**facts, "params": params})
        save_png(old / f"{number}.png", picture(number), promptlab=label)
    run = read_run(import_folder(str(old)).paths.root)
    assert [axis.name for axis in run.axes] == ["scale"]
    assert {json.loads(row["params"])["steps"] for row in run.rows()} == {0, 1, 2}


def test_two_folders_of_one_name_and_two_names_of_one_folder_are_runs_of_their_own(
    project: Project,
):
    for number, folder in enumerate(("one/old", "two/old")):
        save_png(project.path / folder / "a.png", picture(number))
        import_folder(str(project.path / folder))
        (row,) = project.rows()
        assert row["sha256"] == hash_pixels(np.asarray(picture(number))), "each its own picture"
    import_folder(str(project.path / "two/old"), name="other")
    assert len(project.runs) == 3
    assert import_folder("two/old").num_known == 1
    assert len(project.runs) == 3
