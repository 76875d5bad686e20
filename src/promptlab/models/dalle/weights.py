"""Model folders: config.json, vocabulary and model.safetensors; written once, read mapped.

Takes a folder or a dict of tensors; returns the other. The fingerprint covers everything that
determines an image: sizes, tensors and vocabulary. Knows nothing of downloads or of decoding.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab import atomic, identity
from promptlab.errors import ModelError, WeightsMissingError
from promptlab.models.dalle.config import CONFIG_FILE, DalleConfig
from promptlab.models.dalle.tokenizer import MERGES_FILE, VOCAB_FILE

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "model.safetensors"
Shape = tuple[int, ...]


@contextmanager
def open_tensors(folder: Path) -> Iterator[Mapping[str, torch.Tensor]]:
    """Give access to a model folder's tensors by name, each read from disk on access."""
    from safetensors import safe_open

    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise WeightsMissingError(f"Expected {WEIGHTS_FILE} in the model folder {folder}.")
    with safe_open(path, framework="pt", device="cpu") as file:
        yield _MappedTensors(file)


class _MappedTensors(Mapping[str, "torch.Tensor"]):
    """A safetensors file as a read-only mapping."""

    def __init__(self, file: object):
        self._file = file
        self._names = dict.fromkeys(file.keys())  # type: ignore[attr-defined]

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def write_model_folder(
    folder: str | Path,
    config: DalleConfig,
    tensors: Mapping[str, torch.Tensor],
    vocab: Mapping[str, int],
    merges: str | None = None,
) -> DalleConfig:
    """Write a model folder, config.json last; return its config with the fingerprint.

    Tensors carry min-dalle's names behind `encoder.`, `decoder.` and `detokenizer.`; `merges` is
    the text of a merges.txt. Raises ModelError if a tensor is missing, unknown or of wrong shape.
    """
    from safetensors.torch import save_file

    check_shapes(config, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    config = dataclasses.replace(
        config, fingerprint=fingerprint_content(config, tensors, vocab, merges)
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(str(folder / WEIGHTS_FILE), is_durable=True) as aside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside)
        os.chmod(aside, 0o644)  # safetensors writes for its owner alone
    words = {VOCAB_FILE: json.dumps(vocab, ensure_ascii=False)}
    if merges is not None:
        words[MERGES_FILE] = merges
    # config.json comes last: a folder without it is no model folder.
    for texts in (words, {CONFIG_FILE: config.to_json()}):
        data = {str(folder / name): text.encode("utf-8") for name, text in texts.items()}
        atomic.write_files(data, is_durable=True)
    return config


def fingerprint_content(
    config: DalleConfig,
    tensors: Mapping[str, torch.Tensor],
    vocab: Mapping[str, int],
    merges: str | None,
) -> str:
    """Return 16 hex digits over all that determines an image.

    Name and defaults stay out: they are part of a request, not of the weights.
    """
    import torch

    sizes = dataclasses.asdict(config)
    for field in ("name", "defaults", "fingerprint"):
        del sizes[field]
    digest = hashlib.sha256(identity.canonical_json(sizes).encode("utf-8"))
    digest.update(identity.canonical_json(dict(vocab)).encode("utf-8"))
    digest.update((merges or "").encode("utf-8"))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def check_shapes(config: DalleConfig, shapes: Mapping[str, Shape]) -> None:
    """Raise ModelError unless the tensors are exactly those of the config."""
    expected = expected_shapes(config)
    problems = [f"{name} is missing" for name in expected if name not in shapes]
    problems += [f"{name} is unknown" for name in shapes if name not in expected]
    problems += [
        f"{name}: expected {expected[name]}, got {shape}"
        for name, shape in shapes.items()
        if name in expected and shape != expected[name]
    ]
    if problems:
        more = f" … ({len(problems)} problems)" if len(problems) > 5 else ""
        raise ModelError(
            f"The tensors do not match the sizes of {config.name}: {'; '.join(problems[:5])}{more}."
        )


def expected_shapes(config: DalleConfig) -> dict[str, Shape]:
    """Return every tensor's name and shape, as min-dalle's modules name them."""
    shapes: dict[str, Shape] = {}
    width, glu_width = config.width, config.glu_width

    def norm(name: str, size: int = width) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

    def attention(name: str) -> None:
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes[f"{name}.{projection}.weight"] = (width, width)

    def layer(name: str, *, has_cross_attention: bool) -> None:
        norm(f"{name}.pre_self_attn_layer_norm")
        attention(f"{name}.self_attn")
        norm(f"{name}.self_attn_layer_norm")
        if has_cross_attention:
            norm(f"{name}.pre_encoder_attn_layer_norm")
            attention(f"{name}.encoder_attn")
            norm(f"{name}.encoder_attn_layer_norm")
        norm(f"{name}.glu.ln0")
        norm(f"{name}.glu.ln1", glu_width)
        shapes[f"{name}.glu.fc0.weight"] = (glu_width, width)
        shapes[f"{name}.glu.fc1.weight"] = (glu_width, width)
        shapes[f"{name}.glu.fc2.weight"] = (width, glu_width)

    shapes["encoder.embed_tokens.weight"] = (config.text_vocab_size, width)
    shapes["encoder.embed_positions.weight"] = (config.text_length, width)
    shapes["decoder.embed_tokens.weight"] = (config.image_embeddings, width)
    shapes["decoder.embed_positions.weight"] = (config.num_image_tokens, width)
    shapes["decoder.lm_head.weight"] = (config.image_embeddings, width)
    for part, num_layers in (
        ("encoder", config.num_encoder_layers),
        ("decoder", config.num_decoder_layers),
    ):
        norm(f"{part}.layernorm_embedding")
        norm(f"{part}.final_ln")
        for index in range(num_layers):
            layer(f"{part}.layers.{index}", has_cross_attention=part == "decoder")
    shapes.update(_detokenizer_shapes(config))
    return shapes


def _detokenizer_shapes(config: DalleConfig) -> dict[str, Shape]:
    sizes = config.detokenizer
    shapes: dict[str, Shape] = {}

    def norm(name: str, channels: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (channels,)

    def conv(name: str, source: int, target: int, kernel: int = 3) -> None:
        shapes[f"{name}.weight"] = (target, source, kernel, kernel)
        shapes[f"{name}.bias"] = (target,)

    def block(name: str, source: int, target: int) -> None:
        norm(f"{name}.norm1", source)
        conv(f"{name}.conv1", source, target)
        norm(f"{name}.norm2", target)
        conv(f"{name}.conv2", target, target)
        if source != target:
            conv(f"{name}.nin_shortcut", source, target, kernel=1)

    def attention(name: str, channels: int) -> None:
        norm(f"{name}.norm", channels)
        for projection in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{projection}", channels, channels, kernel=1)

    prefix, first = "detokenizer.decoder", sizes.channels[0]
    shapes["detokenizer.embedding.weight"] = (sizes.vocab_size, sizes.embed_width)
    conv("detokenizer.post_quant_conv", sizes.embed_width, sizes.embed_width, kernel=1)
    conv(f"{prefix}.conv_in", sizes.embed_width, first)
    block(f"{prefix}.mid.block_1", first, first)
    block(f"{prefix}.mid.block_2", first, first)
    if sizes.mid_attention:
        attention(f"{prefix}.mid.attn_1", first)
    source = first
    for level, channels in enumerate(sizes.channels):
        up = f"{prefix}.up.{len(sizes.channels) - 1 - level}"  # min-dalle counts from the top
        for index in range(sizes.blocks_per_level):
            block(f"{up}.block.{index}", source, channels)
            source = channels
            if level in sizes.attention_levels:
                attention(f"{up}.attn.{index}", channels)
        if level < len(sizes.channels) - 1:
            conv(f"{up}.upsample.conv", channels, channels)
    norm(f"{prefix}.norm_out", source)
    conv(f"{prefix}.conv_out", source, 3)
    return shapes
