"""From a pipeline's files to a loaded pipeline on its device.

Takes files that are on this machine, returns diffusers' own pipeline; no network is asked.
diffusers and torch are imported when a pipeline loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptlab.errors import ModelError
from promptlab.models.batching import describe_error, is_out_of_memory
from promptlab.models.diffusers.families import DEFAULT, Family, schedulers
from promptlab.models.diffusers.files import PipelineFiles
from promptlab.models.diffusers.libraries import import_diffusers, let_warn

# Weights alone are not enough: the largest share of the memory that they may take.
_SHARE = 0.8


def choose_memory(part_bytes: Sequence[int], total_bytes: int) -> str:
    """Return how weights are held: all on the device, a part at a time, or a layer at a time."""
    if sum(part_bytes) < _SHARE * total_bytes:
        return "full"
    return "offload" if max(part_bytes) < _SHARE * total_bytes else "layers"


def load_pipeline(
    files: PipelineFiles, device: str, dtype: str, memory: str, is_compiled: bool
) -> Any:
    """Return the pipeline, ready to draw.

    `memory` is "full", "offload", "low" (a layer at a time, decoded in tiles) or "auto". Raises
    ModelError with diffusers' reason if it cannot be loaded.
    """
    try:
        pipeline = _open(files, dtype)
        if device == "cpu":
            pipeline.to(device)
        else:
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
        (getattr(pipeline, "transformer", None) or pipeline.unet).compile()
    return pipeline


def make_scheduler(own: Any, name: str, family: Family) -> Any:
    """Return a new scheduler with the settings of the checkpoint's own.

    A new one for each batch: what a scheduler keeps of its last batch cannot act on the next.
    """
    import diffusers

    if name == DEFAULT:
        return type(own).from_config(own.config)
    class_name, settings = schedulers(family.schedulers)[name]
    # The same number under two names: schedulers of flow models alone say `shift`.
    shift = own.config.get("shift", own.config.get("flow_shift"))
    shifts = {} if shift is None else {"shift": shift, "flow_shift": shift}
    return getattr(diffusers, class_name).from_config({**own.config, **shifts}, **settings)


def _open(files: PipelineFiles, dtype: str) -> Any:
    diffusers = import_diffusers()
    import torch

    let_warn(True)
    options = {"dtype": getattr(torch, dtype), "local_files_only": True}
    if files.single_file is None:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            str(files.folder), variant=files.variant, **options
        )
    else:
        pipeline = getattr(diffusers, files.pipeline).from_single_file(
            str(files.single_file), config=str(files.folder), **options
        )
    let_warn(False)  # advice on arguments would come once a batch
    return pipeline


def _place(pipeline: Any, device: str, memory: str) -> None:
    import torch

    if memory == "auto":
        parts = [p for p in pipeline.components.values() if isinstance(p, torch.nn.Module)]
        sizes = [sum(tensor.nbytes for tensor in part.state_dict().values()) for part in parts]
        memory = choose_memory(sizes, torch.cuda.get_device_properties(0).total_memory)
    if memory == "full":
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
