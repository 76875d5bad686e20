"""What a plan asks of a pipeline is answered from its files, without torch or diffusers."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from promptlab.errors import ConfigError, ModelError, ParameterError, WeightsMissingError
from promptlab.models.complete import without_download
from promptlab.models.diffusers import findings as hashes
from promptlab.models.diffusers import open_pipeline
from promptlab.models.diffusers.families import find_family
from promptlab.models.diffusers.files import PipelineFiles
from promptlab.models.diffusers.loras import find, parse
from promptlab.models.protocol import normalize_params

pytestmark = pytest.mark.skipif(find_spec("diffusers") is None, reason="needs promptlab[diffusers]")
FAMILIES = {
    "StableDiffusionPipeline": ["guidance_scale"],
    "StableDiffusionXLPipeline": ["guidance_scale"],
    "StableDiffusion3Pipeline": ["guidance_scale"],
    "FluxPipeline": ["distilled_guidance_scale", "true_cfg_scale"],
    "Flux2KleinPipeline": ["guidance_scale"],
    "ZImagePipeline": ["added_guidance_scale"],
    "QwenImagePipeline": ["true_cfg_scale"],
    "SanaPipeline": ["guidance_scale"],
    "SomePipelineOfNextYear": ["guidance_scale"],
}


def write_safetensors(path: Path, name: str = "weight", content: bytes = b"\0" * 8) -> Path:
    """Write a file in the safetensors format that holds one tensor."""
    end = len(content)
    head = json.dumps({name: {"dtype": "F32", "shape": [end // 4], "data_offsets": [0, end]}})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(head)) + head.encode() + content)
    return path


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline as diffusers saves one, whose weights are nothing but a tensor each."""
    return write_pipeline(tmp_path / "mine", "StableDiffusionPipeline")


def write_pipeline(path: Path, pipeline: str, **scheduler: Any) -> Path:
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
    }
    own = {"_class_name": "DDIMScheduler", **scheduler}
    files = {
        "model_index.json": {"_class_name": pipeline, **parts},
        "unet/config.json": {"sample_size": 64},
        "vae/config.json": {"block_out_channels": [1, 2, 3, 4]},
        "text_encoder/config.json": {},
        "tokenizer/tokenizer_config.json": {},
        "scheduler/scheduler_config.json": own,
    }
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(json.dumps(content))
    for part in ("unet", "vae"):
        write_safetensors(path / part / "diffusion_pytorch_model.safetensors")
    write_safetensors(path / "text_encoder/model.safetensors")
    return path


def settled(path: Path, **params: Any) -> dict[str, Any]:
    model = open_pipeline(str(path))
    accepted = {n: p for n, p in model.parameters.items() if not p.is_for_source}
    return dict(model.settle(normalize_params("mine", accepted, params)))


def test_a_bad_parameter_is_refused_without_torch_or_diffusers(folder, project):
    code = (
        "import sys; from promptlab.cli import main; "
        f"code = main(['sweep', 'model=diffusers', 'model.path={folder}', 'subject=a fox', "
        "'steps=0', '--plan']); "
        "print(code, [m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "1 []", done.stderr
    assert "steps=0: expected a whole number from 1 to 1000" in done.stderr


@pytest.mark.parametrize(("pipeline", "names"), FAMILIES.items())
def test_guidance_has_a_name_for_each_meaning(pipeline, names):
    family = find_family(pipeline, {})
    assert [name for name in family.parameters if "scale" in name and "lora" not in name] == names
    with pytest.raises(ParameterError, match="has no parameter guidance"):
        normalize_params(family.name, family.parameters, {"guidance": 5})


def test_what_the_checkpoint_cannot_use_is_no_parameter():
    schnell = find_family("FluxPipeline", {"transformer": {"guidance_embeds": False}})
    assert "distilled_guidance_scale" not in schnell.parameters
    distilled = find_family("Flux2KleinPipeline", {"": {"is_distilled": True}})
    assert "guidance_scale" not in distilled.parameters


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"width": 500}, "width=500: expected a multiple of 8"),
        ({"height": 4}, "height=4: expected a whole number from 8"),
        ({"scheduler": "dpmpp_sde"}, "scheduler='dpmpp_sde': expected one of default, ddim"),
        ({"guidance_scale": 101}, "guidance_scale=101: expected a number from 0 to 100"),
        ({"eta": 2}, "eta=2: expected"),
        ({"true_cfg_scale": 4}, "no parameter true_cfg_scale"),
        ({"lora": "absent"}, "lora=absent: found no file absent"),
        ({"lora": "a.safetensors:"}, "lora=a.safetensors:: found no file"),
    ],
)
def test_what_cannot_be_drawn_is_refused_while_planning(folder, params, expected):
    with pytest.raises((ParameterError, WeightsMissingError), match=expected.replace("=", "=")):
        settled(folder, **params)


def test_a_scheduler_that_ignores_generators_is_refused(tmp_path):
    own = write_pipeline(
        tmp_path / "own", "StableDiffusionPipeline", _class_name="DPMSolverSDEScheduler"
    )
    with pytest.raises(ParameterError, match=r"does not repeat an image .*Choose scheduler=ddim"):
        settled(own)
    assert settled(own, scheduler="euler")["scheduler"] == "euler"
    noisy = write_pipeline(
        tmp_path / "noisy",
        "FluxPipeline",
        _class_name="FlowMatchEulerDiscreteScheduler",
        stochastic_sampling=True,
    )
    with pytest.raises(ParameterError, match="does not repeat an image"):
        settled(noisy)


def test_parameters_without_effect_give_the_same_image(folder):
    off = settled(folder, guidance_scale=1.0)
    assert settled(folder, guidance_scale=1.0, negative_prompt="blurry") == off
    assert settled(folder, scheduler="euler", eta=0.5) == settled(folder, scheduler="euler")
    assert settled(folder, scheduler="ddim", eta=0.5)["eta"] == 0.5
    assert settled(folder, eta=0.5)["eta"] == 0.5  # the checkpoint's own is DDIM
    lora = write_safetensors(folder.parent / "ink.safetensors", "unet.lora_A.weight")
    base = settled(folder)
    assert settled(folder, lora=str(lora), lora_scale=0) == base
    assert settled(folder, lora=f"{lora}:0") == base
    assert settled(folder, lora_scale=0.5) == base
    assert settled(folder, lora=str(lora)) != base


def test_a_lora_is_named_by_its_content_wherever_it_lies(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = write_safetensors(tmp_path / "loras/ink.safetensors", "lora_down")
    digest = hashlib.sha256(first.read_bytes()).hexdigest()[:12]
    name = f"ink@{digest}"
    assert settled(folder, lora="ink:0.5")["lora"] == f"{name}:0.5"
    other = write_safetensors(tmp_path / "loras/b.safetensors", "lora_up")
    assert settled(folder, lora=f"{other} + ink.safetensors:2")["lora"].endswith(f" + {name}:2.0")
    with pytest.raises(ParameterError, match="ink is named twice"):
        settled(folder, lora=f"{first} + ink")
    assert settled(folder, lora=name)["lora"] == name  # as a row has it
    moved = first.rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(WeightsMissingError, match=f"found no file ink with the SHA-256 {digest}"):
        find(name, tmp_path / "loras")
    settled(folder, lora=str(moved))
    assert find(name, tmp_path / "loras") == moved  # remembered by its hash
    write_safetensors(first, "lora_down", b"other...")
    assert find(name, tmp_path / "loras") == moved


def test_what_is_no_lora_is_refused(folder, tmp_path):
    other = write_safetensors(tmp_path / "model.safetensors")
    with pytest.raises(ParameterError, match="has no LoRA weights"):
        settled(folder, lora=str(other))
    short = tmp_path / "short.safetensors"
    short.write_bytes(b"\1")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        settled(folder, lora=str(short))


def test_a_set_of_loras_is_read_with_its_strengths():
    assert parse("C:/a b.safetensors:0.5 + c+d:-1 + e") == [
        ("C:/a b.safetensors", 0.5),
        ("c+d", -1.0),
        ("e", 1.0),
    ]
    assert parse("  ") == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: (path / "model_index.json").unlink(), "no pipeline that diffusers saved"),
        (lambda path: (path / "unet/config.json").write_text("{"), "cannot be read as JSON"),
        (
            lambda path: (path / "unet/diffusion_pytorch_model.safetensors").unlink(),
            r"incomplete: unet/diffusion_pytorch_model\.safetensors is missing",
        ),
        (
            lambda path: (path / "text_encoder/model.safetensors").write_bytes(b"short"),
            r"model\.safetensors is not a whole safetensors file",
        ),
        (
            lambda path: append(path / "vae/diffusion_pytorch_model.safetensors"),
            "not a whole safetensors file .*86 bytes",
        ),
        (
            lambda path: (path / "tokenizer/tokenizer_config.json").unlink(),
            "incomplete: tokenizer/config.json is missing",
        ),
    ],
)
def test_a_broken_folder_is_one_message_that_names_the_file(folder, damage, expected):
    damage(folder)
    with pytest.raises(ModelError, match=expected):
        open_pipeline(str(folder))


def test_every_shard_of_split_weights_must_be_there(folder):
    index = {
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors",
        }
    }
    (folder / "text_encoder/model.safetensors").unlink()
    (folder / "text_encoder/model.safetensors.index.json").write_text(json.dumps(index))
    write_safetensors(folder / "text_encoder/model-00001-of-00002.safetensors")
    with pytest.raises(WeightsMissingError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_pipeline(str(folder))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"path": None}, "model.path is not set"),
        ({"path": "/nowhere/at/all"}, "There is no such"),
        ({"device": "tpu"}, "model.device='tpu': expected one of cpu, cuda, auto"),
        ({"dtype": "int8"}, "model.dtype='int8'"),
        ({"memory": "most"}, "model.memory='most'"),
        ({"batch_size": 0}, "model.batch_size=0: expected a whole number from 1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_the_model_is_opened(folder, options, expected):
    with pytest.raises((ConfigError, ModelError), match=expected):
        open_pipeline(**{"path": str(folder), **options})


def test_a_single_file_without_the_folder_of_its_configs_is_refused(folder, tmp_path):
    file = write_safetensors(tmp_path / "tune.safetensors")
    with pytest.raises(ConfigError, match=r"model\.config=None: expected the folder"):
        open_pipeline(str(file))
    model = open_pipeline(str(file), config=str(folder))
    assert (model.name, model.family.name) == ("tune", "sd15")


@pytest.mark.slow
def test_a_repository_that_is_not_here_can_be_planned_and_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = open_pipeline("someone/model-of-theirs", pipeline="StableDiffusionXLPipeline")
    assert not model.is_downloaded
    assert model.image_size == (1024, 1024)
    assert "guidance_scale" in model.parameters
    planned = without_download(model)
    assert (planned.fingerprint, planned.describe().padded_batch) == ("", None)
    with pytest.raises(WeightsMissingError, match="hf download someone/model-of-theirs"):
        _ = model.fingerprint
    with pytest.raises(WeightsMissingError, match="is not on this machine"):
        _ = open_pipeline("someone/model-of-theirs").parameters


@pytest.mark.parametrize(
    ("path", "name"),
    [("org/FLUX.1-dev", "FLUX.1-dev"), ("org/a", "a"), ("mine/", "mine")],
)
def test_a_model_is_named_after_its_path(path, name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_pipeline(path).name == name


def test_the_fingerprint_is_that_of_what_is_loaded(folder, tmp_path):
    before = open_pipeline(str(folder)).fingerprint
    (folder / "README.md").write_text("news")
    write_safetensors(folder / "unet/diffusion_pytorch_model.fp16.safetensors", content=b"half")
    assert open_pipeline(str(folder)).fingerprint == before
    assert open_pipeline(str(folder.rename(tmp_path / "moved"))).fingerprint == before
    moved = tmp_path / "moved"
    assert open_pipeline(str(moved), variant="fp16").fingerprint != before
    assert open_pipeline(str(moved), compile=True).fingerprint != before
    write_safetensors(moved / "vae/diffusion_pytorch_model.safetensors", content=b"otherone")
    assert open_pipeline(str(moved)).fingerprint != before


def test_a_large_file_is_read_once_and_again_when_it_changes(tmp_path, monkeypatch):
    reads = []
    real = hashlib.file_digest
    monkeypatch.setattr(
        hashes.hashlib, "file_digest", lambda file, kind: reads.append(1) or real(file, kind)
    )
    file = tmp_path / "weights.bin"
    file.write_bytes(b"\1" * hashes.SMALL)
    first = hashes.file_hash(file)
    assert hashes.file_hash(file) == first == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(reads) == 1
    file.write_bytes(b"\2" * hashes.SMALL)
    assert hashes.file_hash(file) != first
    assert len(reads) == 2


def test_a_blob_of_the_hubs_cache_is_named_by_its_hash_and_not_read(tmp_path):
    name = "ab" * 32
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"anything")
    link = tmp_path / "snapshots/main/model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "blobs" / name)
    assert hashes.file_hash(link) == name


def test_the_batch_of_an_image_size_is_a_parameter_that_is_settled(folder, monkeypatch):
    from promptlab.models.diffusers import model as module

    assert settled(folder)["padded_batch"] == 1  # a CPU
    assert settled(folder, padded_batch=3)["padded_batch"] == 3
    given = open_pipeline(str(folder), batch_size=5)
    params = normalize_params("mine", given.parameters, {})
    assert given.settle(params)["padded_batch"] == 5
    monkeypatch.setattr(module, "device_memory", lambda: 2**34)
    model = open_pipeline(str(folder), device="cuda")
    assert model.dtype == "float16"
    sizes = {}
    for side in (256, 512, 1024, 2048):
        given = normalize_params("mine", model.parameters, {"width": side, "height": side})
        sizes[side] = model.settle(given)["padded_batch"]
    assert sizes == {256: 16, 512: 16, 1024: 4, 2048: 1}


def test_weights_are_held_as_memory_allows():
    from promptlab.models.diffusers.loading import choose_memory

    found = [choose_memory([12, 8], total) for total in (40, 20, 14)]
    assert found == ["full", "offload", "layers"]


def test_files_of_a_variant_are_those_that_diffusers_loads(folder):
    half = write_safetensors(folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    files = PipelineFiles(folder, "fp16")
    assert files.weights_of("unet") == [half]
    assert files.weights_of("vae") == [folder / "vae/diffusion_pytorch_model.safetensors"]
    assert files.weights_of("tokenizer") == []
