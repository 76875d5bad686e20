"""CLIP, SigLIP and SigLIP2 through transformers: how well an image fits its prompt; linear heads.

Takes a folder that transformers saved, or a Hub id; reads vectors that are kept once. Needs
promptlab[scores]. Knows no run.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptlab.errors import ConfigError, ModelError, WeightsMissingError
from promptlab.identity import hash_id
from promptlab.models.diffusers.findings import file_hash, fingerprint
from promptlab.models.diffusers.libraries import import_transformers
from promptlab.models.machine import find_device
from promptlab.scores.protocol import Embedder, Item, Scope, Score

WEIGHTS = ("*.safetensors", "*.bin", "config.json", "preprocessor_config.json")
BATCH = 16


class ClipVectors:
    """The unit vectors of images, and of texts to compare them with."""

    def __init__(self, path: str, name: str = "clip", device: str = "auto") -> None:
        self.path = path
        self.name = name
        self._device = device
        self._model: Any = None
        self._processor: Any = None

    @functools.cached_property
    def folder(self) -> Path:
        """Where the files are; a Hub id is downloaded."""
        place = Path(self.path).expanduser()
        if place.is_dir():
            return place
        if self.path.count("/") != 1 or self.path.startswith((".", "~", "/")):
            raise WeightsMissingError(
                f"{self.path}: expected a folder that transformers saved, or a Hub id such as "
                "openai/clip-vit-base-patch32. There is no such folder."
            )
        _require("transformers")
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.path, ignore_patterns=["*.h5", "*.msgpack"]))
        except Exception as error:
            raise WeightsMissingError(
                f"{self.path} is not on this machine and cannot be downloaded "
                f"({type(error).__name__}). With network: hf download {self.path}"
            ) from error

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of weights and configs: 16 hex digits."""
        files = [file for pattern in WEIGHTS for file in sorted(self.folder.glob(pattern))]
        return fingerprint(files, self.folder, {})

    def load(self) -> None:
        """Read weights and tokenizer."""
        if self._model is not None:
            return
        _require("transformers")
        transformers = import_transformers()
        where = {"pretrained_model_name_or_path": self.folder, "local_files_only": True}
        try:
            model: Any = transformers.AutoModel.from_pretrained(**where)
            self._processor = transformers.AutoProcessor.from_pretrained(**where)
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.folder} cannot be read by transformers: {error}") from error
        self._model = model.eval().to(find_device() if self._device == "auto" else self._device)

    def unload(self) -> None:
        """Free the weights."""
        self._model = self._processor = None

    def embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 unit vectors [image, dim] of uint8 images of any sizes."""
        found = []
        for start in range(0, len(pixels), BATCH):
            images = list(pixels[start : start + BATCH])
            found.append(self._features("image", images=images))
        return np.concatenate(found)

    def read(self, prompts: Sequence[str]) -> np.ndarray:
        """Return float32 unit vectors [text, dim]."""
        # SigLIP was trained on texts padded to the full length, CLIP is indifferent to padding.
        limit = self._model.config.text_config.max_position_embeddings
        return self._features(
            "text", text=list(prompts), padding="max_length", truncation=True, max_length=limit
        )

    def _features(self, kind: str, **given: Any) -> np.ndarray:
        import torch

        inputs = self._processor(return_tensors="pt", **given).to(self._model.device)
        with torch.inference_mode():
            found = getattr(self._model, f"get_{kind}_features")(**inputs)
        tensor = found if isinstance(found, torch.Tensor) else found.pooler_output  # v5
        return torch.nn.functional.normalize(tensor.float(), dim=-1).cpu().numpy()


class ClipMatch:
    """The cosine of an image and its prompt."""

    is_higher_better = True
    bounds = (-1.0, 1.0)
    scope: Scope = "image"

    def __init__(self, path: str, name: str = "clip", device: str = "auto") -> None:
        self.name = name
        self._vectors = ClipVectors(path, name, device)
        self.embedder: Embedder | None = self._vectors

    @property
    def fingerprint(self) -> str:
        """That of the vectors."""
        return self._vectors.fingerprint

    def load(self) -> None:
        """Read the weights, for the prompts."""
        self._vectors.load()

    def unload(self) -> None:
        """Free the weights."""
        self._vectors.unload()

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return the cosine of each image's vector and its prompt's."""
        prompts = list(dict.fromkeys(item.row["prompt"] for item in items))
        texts = []
        for start in range(0, len(prompts), BATCH):
            texts.append(self._vectors.read(prompts[start : start + BATCH]))
        from_prompt = dict(zip(prompts, np.concatenate(texts), strict=True))
        return [Score(float(item.vector @ from_prompt[item.row["prompt"]])) for item in items]


class LinearHead:
    """A linear head on CLIP's unit vectors, such as LAION's aesthetic predictors.

    `head` is a safetensors file with one weight of as many numbers as the vectors have, and at
    most one bias. LAION's .pth files: `torch.load`, then `safetensors.torch.save_file`.
    """

    is_higher_better = True
    bounds: tuple[float | None, float | None] = (None, None)
    scope: Scope = "image"

    def __init__(
        self, head: str, path: str, name: str = "aesthetic", embedder: str = "clip"
    ) -> None:
        self.name = name
        self._head = Path(head).expanduser()
        self.embedder: Embedder | None = ClipVectors(path, embedder)
        if not self._head.is_file():
            raise ConfigError(f"head={head}: expected a safetensors file; there is no such file.")

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the head and of the vectors' weights."""
        assert self.embedder is not None
        return hash_id([file_hash(self._head), self.embedder.fingerprint])

    def load(self) -> None:
        """Read the head."""
        from safetensors.numpy import load_file

        tensors = {name: tensor.ravel() for name, tensor in load_file(self._head).items()}
        weights = [tensor for tensor in tensors.values() if tensor.size > 1]
        biases = [tensor for tensor in tensors.values() if tensor.size == 1]
        if len(weights) != 1 or len(biases) > 1:
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            raise ConfigError(f"{self._head}: expected one weight and one bias, got {shapes}.")
        self._weight = weights[0].astype(np.float32)
        self._bias = float(biases[0][0]) if biases else 0.0

    def unload(self) -> None:
        """Keep the few numbers."""

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return the head's value of each vector."""
        vectors = np.array([item.vector for item in items], np.float32)
        if vectors.shape[1] != len(self._weight):
            raise ConfigError(
                f"{self._head} is for vectors of {len(self._weight)} numbers, got "
                f"{vectors.shape[1]}: name the model that it was made for."
            )
        return [Score(value) for value in (vectors @ self._weight + self._bias).tolist()]


def _require(package: str) -> None:
    """Refuse with the command that installs what is missing."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ModelError(f"This needs {package}: pip install 'promptlab[scores]'")
