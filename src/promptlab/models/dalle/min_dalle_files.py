"""min-dalle's published weights: found or fetched, then converted once to a model folder.

Takes "mini" or "mega" and perhaps a local folder; returns a model folder in promptlab's cache. Once
converted, neither the network nor the original files are needed again. Knows nothing of decoding.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.errors import ModelError, WeightsMissingError
from promptlab.models.dalle.config import CONFIG_FILE, CONFIG_FROM_SIZE
from promptlab.models.dalle.weights import expected_shapes, write_model_folder
from promptlab.models.machine import cache_folder

log = logging.getLogger(__name__)

REPOSITORY = "kuprel/min-dalle"
DEFAULT_FOLDER = "pretrained"  # where min-dalle itself looks
NETWORK_S = 10.0  # timeout of a server's first answer


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The five files that make one model."""

    vocab: Path
    merges: Path
    encoder: Path
    decoder: Path
    detokenizer: Path

    def missing(self) -> list[Path]:
        """Return the files that do not exist."""
        return [path for path in self.all() if not path.is_file()]

    def all(self) -> tuple[Path, ...]:
        """Return all five."""
        return self.vocab, self.merges, self.encoder, self.decoder, self.detokenizer


def converted_folder(size: str, weights: str | None = None) -> Path:
    """Return the model folder of min-dalle's mini or mega, converting it first if necessary.

    Raises WeightsMissingError with the files, where they go, and the command.
    """
    name = CONFIG_FROM_SIZE[size].name
    local = local_files(Path(weights or DEFAULT_FOLDER).expanduser(), size)
    if weights is not None and local.missing():
        raise WeightsMissingError(
            f"weights={weights}: missing {', '.join(map(str, local.missing()))}.\n"
            + _where_files_go(local)
        )
    if not local.missing():
        folder = cache_folder() / f"{name}-{_key(local)}"
        if not (folder / CONFIG_FILE).is_file():
            convert(local, size, folder)
        return folder
    folder = cache_folder() / name
    if not (folder / CONFIG_FILE).is_file():
        convert(download(size), size, folder)
    return folder


def is_present(size: str, weights: str | None = None) -> bool:
    """Tell whether a model can be opened without a download; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    if not local_files(Path(weights or DEFAULT_FOLDER).expanduser(), size).missing():
        return True
    if weights is not None:
        return False
    is_converted = (cache_folder() / CONFIG_FROM_SIZE[size].name / CONFIG_FILE).is_file()
    return is_converted or all(
        isinstance(try_to_load_from_cache(REPOSITORY, name), str) for name in _file_names(size)
    )


def local_files(folder: Path, size: str) -> SourceFiles:
    """Return the paths of a folder in min-dalle's own layout."""
    transformer = folder / f"dalle_bart_{size}"
    return SourceFiles(
        vocab=transformer / "vocab.json",
        merges=transformer / "merges.txt",
        encoder=transformer / "encoder.pt",
        decoder=transformer / "decoder.pt",
        detokenizer=folder / "vqgan" / "detoker.pt",
    )


def _key(files: SourceFiles) -> str:
    """Name a set of local files without reading them: paths, sizes and times of change."""
    digest = hashlib.sha256()
    for path in files.all():
        status = path.stat()
        digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:12]


def download(size: str) -> SourceFiles:
    """Return the files from the Hugging Face cache, fetching those that are not in it."""
    return SourceFiles(*(_fetch(name, size) for name in _file_names(size)))


def _file_names(size: str) -> tuple[str, ...]:
    suffix = "_mini" if size == "mini" else ""
    names = ("vocab", "merges", "encoder", "decoder")
    ends = (".json", ".txt", ".pt", ".pt")
    return (*(f"{name}{suffix}{end}" for name, end in zip(names, ends, strict=True)), "detoker.pt")


def _fetch(name: str, size: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:  # without asking the network whether there is a newer one
        return Path(hf_hub_download(REPOSITORY, name, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        _check_network()
        return Path(hf_hub_download(REPOSITORY, name))
    except Exception as error:  # offline, refused, interrupted: the advice is the same
        wanted = local_files(Path(DEFAULT_FOLDER), size)
        raise WeightsMissingError(
            f"The weights of min-dalle {size} are not on this machine, and {name} could not be "
            f"fetched from huggingface.co/{REPOSITORY} ({type(error).__name__}).\n"
            f"With a network, fetch them once: hf download {REPOSITORY}\n" + _where_files_go(wanted)
        ) from error


def _check_network() -> None:
    """Raise OSError at once if there is no network; the library would retry for a minute."""
    import urllib.error
    import urllib.request

    from huggingface_hub.constants import ENDPOINT

    with contextlib.suppress(urllib.error.HTTPError):  # an answer is an answer
        urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=NETWORK_S)


def _where_files_go(files: SourceFiles) -> str:
    lines = "\n".join(f"  {path}" for path in files.all())
    return (
        f"Or put min-dalle's files here (weights=FOLDER names another place than "
        f"{DEFAULT_FOLDER}/):\n{lines}"
    )


def convert(files: SourceFiles, size: str, folder: Path) -> None:
    """Write the model folder of one set of min-dalle's files."""
    config = CONFIG_FROM_SIZE[size]
    log.info("Converting min-dalle %s to %s (once).", size, folder)
    expected = expected_shapes(config)
    tensors = {}
    for part in ("encoder", "decoder", "detokenizer"):
        for name, tensor in _load(getattr(files, part)).items():
            if f"{part}.{name}" in expected:  # min-dalle ignores further entries, too
                tensors[f"{part}.{name}"] = tensor
    write_model_folder(
        folder,
        config,
        tensors,
        json.loads(files.vocab.read_text(encoding="utf-8")),
        files.merges.read_text(encoding="utf-8"),
    )


def _load(path: Path) -> Mapping[str, Any]:
    """Return a checkpoint's tensors: data only, never code; mapped where the format allows."""
    import pickle

    import torch

    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before torch 1.6 cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path} is not a checkpoint of tensors: {error}") from error
    if not isinstance(state, Mapping):
        raise ModelError(f"{path}: expected a mapping of tensors, got {type(state).__name__}.")
    return state
