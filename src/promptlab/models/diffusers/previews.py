"""Half-drawn images: what a pipeline's latents decode to after some of the steps.

Takes a loaded pipeline and latents as its step callback gets them; changes neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from promptlab.records import Scalar


@torch.no_grad()
def decode_preview(
    pipeline: Any, latents: torch.Tensor, params: Mapping[str, Scalar]
) -> torch.Tensor | None:
    """Return images [image, 3, height, width] in [0, 1].

    None for FLUX.2, whose latents cannot be unpacked without what its call keeps to itself.
    """
    vae = pipeline.vae
    if latents.ndim == 3:  # [image, patch, channel]
        if not hasattr(pipeline, "_unpack_latents"):
            return None
        size = (params["height"], params["width"])
        latents = pipeline._unpack_latents(latents, *size, pipeline.vae_scale_factor)
    mean, deviation = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is not None and deviation is not None:
        shape = (1, -1, *[1] * (latents.ndim - 2))
        latents = latents * latents.new_tensor(deviation).view(shape)
        latents = latents + latents.new_tensor(mean).view(shape)
    else:
        latents = latents / vae.config.get("scaling_factor", 1.0)
        latents = latents + (vae.config.get("shift_factor") or 0.0)
    images = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    if images.ndim == 5:  # a video of one frame
        images = images[:, :, 0]
    return (images / 2 + 0.5).clamp(0, 1).nan_to_num()
