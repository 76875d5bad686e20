"""The min-dalle package, contained: the reference that tests and benchmarks compare with.

Takes sizes, returns min-dalle's own modules with seeded random weights. Importing min_dalle turns
gradients off and sets the number of threads for the whole process; here both are put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from promptlab.models.dalle.config import MIN_DALLE_DETOKENIZER, DalleConfig
from promptlab.models.dalle.precision import get_tf32, set_tf32

Modules = tuple[Any, Any, Any]


@contextmanager
def kept_torch_state() -> Iterator[None]:
    """Put back what importing min_dalle changes globally."""
    is_grad_enabled = torch.is_grad_enabled()
    num_threads = torch.get_num_threads()
    is_cudnn_enabled = torch.backends.cudnn.enabled
    tf32 = get_tf32()
    try:
        yield
    finally:
        torch.set_grad_enabled(is_grad_enabled)
        torch.set_num_threads(num_threads)
        torch.backends.cudnn.enabled = is_cudnn_enabled
        set_tf32(*tf32)


def import_min_dalle() -> ModuleType:
    """Return the module min_dalle.min_dalle, leaving torch's global state as it was."""
    with kept_torch_state():
        import min_dalle.min_dalle as module
    return module


def build_modules(config: DalleConfig, seed: int = 0) -> Modules:
    """Return min-dalle's encoder, decoder and detokenizer with seeded random weights.

    The detokenizer has min-dalle's one size; encoder and decoder have the config's, with the 256
    image tokens that min-dalle fixes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, decoder, detokenizer = _construct(config, "cpu")
    return encoder.eval(), decoder.eval(), detokenizer.eval()


def _construct(config: DalleConfig, device: str) -> Modules:
    module = import_min_dalle()
    encoder = module.DalleBartEncoder(
        layer_count=config.num_encoder_layers,
        embed_count=config.width,
        attention_head_count=config.num_heads,
        text_vocab_count=config.text_vocab_size,
        text_token_count=config.text_length,
        glu_embed_count=config.glu_width,
        device=device,
    )
    decoder = module.DalleBartDecoder(
        image_vocab_count=config.image_embeddings - 1,
        embed_count=config.width,
        attention_head_count=config.num_heads,
        glu_embed_count=config.glu_width,
        layer_count=config.num_decoder_layers,
        device=device,
    )
    return encoder, decoder, module.VQGanDetokenizer()


def load_modules(config: DalleConfig, tensors: Mapping[str, Tensor], device: str) -> Modules:
    """Return min-dalle's encoder, decoder and detokenizer with given float32 weights, on a device.

    The detokenizer stays without weights if the config's is not of min-dalle's size.
    """
    with torch.device("meta"):
        modules = _construct(config, device)
    for part, module in zip(("encoder", "decoder", "detokenizer"), modules, strict=True):
        names = module.state_dict()
        if part != "detokenizer" or config.detokenizer == MIN_DALLE_DETOKENIZER:
            state = {name: tensors[f"{part}.{name}"].to(device) for name in names}
            module.load_state_dict(state, assign=True)
    encoder, decoder, detokenizer = modules
    return encoder.eval(), decoder.eval(), detokenizer.eval()


def named_tensors(encoder: Any, decoder: Any, detokenizer: Any) -> dict[str, torch.Tensor]:
    """Return the modules' tensors under the names of a model folder."""
    parts = {"encoder": encoder, "decoder": decoder, "detokenizer": detokenizer}
    return {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
