"""Prompts as a pipeline reads them: each distinct one is encoded once, alone.

Takes a loaded pipeline and its family; returns the tensors that its call takes instead of the
prompt. Encoded alone, a prompt's tensors do not depend on the other prompts of a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import torch

from promptlab.models.diffusers.families import Family
from promptlab.records import Request, Scalar

Encoded = dict[str, Any]  # argument of the call -> tensor [1, …], or a list of one tensor
CLIP_LENGTH = 77  # tokens
# Kept texts, of up to 8 MB each. A sweep's prompts come cell by cell, so few are read again.
MAX_TEXTS = 128


class Texts:
    """The prompts of one loaded pipeline."""

    def __init__(self, pipeline: Any, family: Family):
        self._pipeline, self._family = pipeline, family
        self._encode = lru_cache(MAX_TEXTS)(self._encode_text)

    def encode(self, request: Request) -> Encoded:
        """Return the tensors of a request's prompt and of its negative prompt, if that acts."""
        params = request.params
        # A LoRA may change a text encoder.
        acting = [params.get(name) for name in ("lora", "lora_scale", "max_sequence_length")]
        encoded = self._encode(request.prompt, False, bool(params.get("instruction")), *acting)
        if not self._family.compares(params):
            return encoded
        negative = self._encode(str(params["negative_prompt"]), True, False, *acting)
        return {**encoded, **{f"negative_{name}": value for name, value in negative.items()}}

    def _encode_text(
        self, text: str, is_negative: bool, has_instruction: bool, *acting: Scalar
    ) -> Encoded:
        """Encode one text as the pipeline's own call would."""
        pipeline = self._pipeline
        if not self._family.embeds:
            return {"prompt": [text]}
        arguments = {
            "prompt": [text],
            "prompt_2": None,
            "prompt_3": None,
            "device": pipeline._execution_device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": False,
            "max_sequence_length": acting[-1],
        }
        if has_instruction:  # the text that the pipeline's call has by default
            name = "complex_human_instruction"
            arguments[name] = inspect.signature(pipeline.__call__).parameters[name].default
        with torch.inference_mode():
            values = pipeline.encode_prompt(**accepted(pipeline.encode_prompt, arguments))
        pairs = zip(self._family.embeds, values, strict=False)
        encoded = {name: value for name, value in pairs if name and value is not None}
        if is_negative and not text and pipeline.config.get("force_zeros_for_empty_prompt"):
            encoded = {name: torch.zeros_like(value) for name, value in encoded.items()}
        return encoded

    def unseen(self, request: Request) -> str:
        """Return the end of a prompt that no text encoder reads; "" if one reads it all."""
        ends = []
        for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
            tokenizer = getattr(self._pipeline, name, None)
            if tokenizer is not None:
                ids = tokenizer(request.prompt, add_special_tokens=False).input_ids
                length = _num_tokens(tokenizer, request.params.get("max_sequence_length"))
                ends.append(tokenizer.decode(ids[length:]).strip())
        return min(ends, key=len, default="")


def accepted(function: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that a function names."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in arguments.items() if name in names}


def shapes(encoded: Encoded) -> Hashable:
    """Return what requests of one batch must share, so that none is padded for a neighbour.

    Prompts that the pipeline reads itself must be the same.
    """
    return tuple(
        (name, tuple(value) if name == "prompt" else tuple(torch.as_tensor(value[0]).shape))
        for name, value in encoded.items()
    )


def stack(rows: Sequence[Encoded]) -> Encoded:
    """Return the arguments of a batch."""
    return {
        name: [one for row in rows for one in row[name]]
        if isinstance(rows[0][name], list)
        else torch.cat([row[name] for row in rows])
        for name in rows[0]
    }


def _num_tokens(tokenizer: Any, chosen: Scalar) -> int:
    """Return how many tokens of a prompt fit between those that a tokenizer adds by itself."""
    limit = tokenizer.model_max_length
    if limit > CLIP_LENGTH:  # CLIP's cannot be chosen
        limit = min(limit, int(chosen or limit))
    added = tokenizer.num_special_tokens_to_add()
    if tokenizer.chat_template:
        empty = [{"role": "user", "content": ""}]
        added = len(tokenizer(tokenizer.apply_chat_template(empty, tokenize=False)).input_ids)
    return max(limit - added, 0)
