"""Where a pipeline's files are: a folder, a single file, or a repository of the Hugging Face Hub.

Takes what `model.path` says, returns the files. The network is asked for a repository that is not
in the Hub's cache yet, and for nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from promptlab.errors import ConfigError, PromptlabError, WeightsMissingError
from promptlab.models.batching import describe_error
from promptlab.models.diffusers.files import INDEX, PipelineFiles

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Repository:
    """A pipeline on the Hub."""

    name: str  # "stabilityai/sdxl-turbo"
    revision: str | None = None
    variant: str | None = None

    def find(self) -> PipelineFiles | None:
        """Return the files if all of them are in the cache; asks no network."""
        from huggingface_hub import try_to_load_from_cache

        index = try_to_load_from_cache(self.name, INDEX, revision=self.revision)
        if not isinstance(index, str):
            return None
        files = PipelineFiles(Path(index).parent, self.variant)
        try:
            files.check()
        except PromptlabError:
            return None
        return files

    def pipeline(self) -> str:
        """Return the pipeline's class, fetching one small file if it is not in the cache."""
        from huggingface_hub import hf_hub_download

        try:
            index = hf_hub_download(self.name, INDEX, revision=self.revision)
        except Exception as error:
            raise self._missing(error) from error
        return PipelineFiles(Path(index).parent).pipeline

    def fetch(self) -> PipelineFiles:
        """Return the files, downloading those that are not in the cache.

        Raises WeightsMissingError with the command that downloads them.
        """
        found = self.find()
        if found is not None:
            return found
        import diffusers
        import diffusers.utils.logging

        diffusers.utils.logging.set_verbosity_error()  # what is wrong is in the message below
        try:
            folder = diffusers.DiffusionPipeline.download(
                self.name, revision=self.revision, variant=self.variant
            )
        except Exception as error:
            raise self._missing(error) from error
        files = PipelineFiles(Path(folder), self.variant)
        files.check()
        return files

    def _missing(self, error: Exception) -> WeightsMissingError:
        """Say what is missing: no network, terms that are not accepted, no such repository."""
        revision = f" --revision {self.revision}" if self.revision else ""
        return WeightsMissingError(
            f"The pipeline {self.name} is not on this machine and cannot be downloaded "
            f"({shorten(describe_error(error), 160)}). With network, and logged in (hf auth login) "
            f"where terms must be accepted: hf download {self.name}{revision} --local-dir FOLDER; "
            "then model.path=FOLDER."
        )


def locate(
    path: str, revision: str | None, variant: str | None, config: str | None
) -> PipelineFiles | Repository:
    """Return the files that `model.path` names, or the repository that has them."""
    place = Path(path).expanduser()
    if place.is_dir():
        return PipelineFiles(place, variant)
    if place.is_file():
        if config is None or not Path(config).expanduser().is_dir():
            raise ConfigError(
                f"model.path={path} is a single file, model.config={config}: expected the folder "
                "of a pipeline of the same kind, with its configs and tokenizers. Without it "
                "diffusers would fetch them from the network."
            )
        return PipelineFiles(Path(config).expanduser(), None, place)
    if _REPOSITORY.fullmatch(path) and not path.startswith("."):
        return Repository(path, revision, variant)
    raise WeightsMissingError(
        f"model.path={path}: expected a folder that diffusers saved, a .safetensors file, or a "
        "repository of the Hugging Face Hub such as stabilityai/sdxl-turbo. There is no such "
        "file or folder."
    )
