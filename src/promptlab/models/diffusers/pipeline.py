"""From a pipeline's files to a loaded pipeline on its device.

Takes files that are on this machine, returns diffusers' own pipeline; no network is asked. The
only module besides texts.py that needs diffusers or torch; both are imported when it loads.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from promptlab.errors import ModelError
from promptlab.models.batching import describe_error, is_out_of_memory
from promptlab.models.diffusers.families import DEFAULT, Family
from promptlab.models.diffusers.files import PipelineFiles

Memory = Literal["full", "offload", "low"]
# Weights alone are not enough: the largest share of the memory that they may take.
_SHARE = 0.8


def choose_memory(part_bytes: Mapping[str, int], device: str, total_bytes: int) -> Memory:
    """Return how weights are held: all on the device, a part at a time, or a layer at a time."""
    if device == "cpu" or sum(part_bytes.values()) < _SHARE * total_bytes:
        return "full"
    return "offload" if max(part_bytes.values()) < _SHARE * total_bytes else "low"


def load_pipeline(
    files: PipelineFiles, device: str, dtype: str, memory: Memory, is_compiled: bool
) -> Any:
    """Return the pipeline, ready to draw.

    Raises ModelError with diffusers' reason if it cannot be loaded.
    """
    import torch

    options = {"dtype": getattr(torch, dtype), "local_files_only": True}
    try:
        pipeline = _open(files, options)
        _place(pipeline, device, memory)
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"The weights do not fit in the memory of {device}: set model.memory=offload, or "
                f"low. ({describe_error(error)})"
            ) from error
        raise ModelError(
            f"The pipeline in {files.folder} cannot be loaded: {describe_error(error)}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    # An image is decoded alone: its bits do not depend on the batch, and memory is saved.
    if hasattr(pipeline.vae, "enable_slicing"):
        pipeline.vae.enable_slicing()
    if memory == "low" and hasattr(pipeline.vae, "enable_tiling"):
        pipeline.vae.enable_tiling()
    if is_compiled:
        denoiser(pipeline).compile()
    return pipeline


def denoiser(pipeline: Any) -> Any:
    """Return the network that runs once a step."""
    return getattr(pipeline, "transformer", None) or pipeline.unet


def make_scheduler(own: Any, name: str, family: Family) -> Any:
    """Return a new scheduler with the settings of the checkpoint's own.

    A new one for each batch: what a scheduler keeps of its last batch cannot act on the next.
    """
    import diffusers

    if name == DEFAULT or family.schedulers is None:
        return type(own).from_config(own.config)
    class_name, settings = family.schedulers[name]
    # The same number under two names: schedulers of flow models alone say `shift`.
    shift = own.config.get("shift", own.config.get("flow_shift"))
    shifts = {} if shift is None else {"shift": shift, "flow_shift": shift}
    return getattr(diffusers, class_name).from_config({**own.config, **shifts}, **settings)


def _open(files: PipelineFiles, options: dict[str, Any]) -> Any:
    import diffusers
    import diffusers.utils.logging
    import transformers.utils.logging

    for handler in logging.getLogger("transformers").handlers:
        handler.addFilter(lambda record: "requires torchvision" not in record.getMessage())
    for library in (transformers.utils.logging, diffusers.utils.logging):
        library.disable_progress_bar()
        library.set_verbosity_warning()
    if files.single_file is None:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            str(files.folder), variant=files.variant, **options
        )
    else:
        pipeline = getattr(diffusers, files.pipeline).from_single_file(
            str(files.single_file), config=str(files.folder), **options
        )
    for library in (transformers.utils.logging, diffusers.utils.logging):
        library.set_verbosity_error()  # advice on arguments would come once a batch
    return pipeline


def _place(pipeline: Any, device: str, memory: Memory) -> None:
    import torch

    if device == "cpu" or memory == "full":
        pipeline.to(device)
    elif memory == "offload":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(
            onload_device=torch.device(device),
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=True,
        )
