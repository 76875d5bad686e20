"""Prompts as a pipeline reads them: each distinct one is encoded once, alone.

Takes a loaded pipeline and its family; returns the tensors that its call takes instead of the
prompt. Encoded alone, a prompt's tensors do not depend on the other prompts of a batch.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch

from promptlab.models.diffusers.families import Family
from promptlab.records import Request, Scalar

Encoded = dict[str, Any]  # argument of the call -> tensor [1, …], or a list of one tensor
CLIP_LENGTH = 77  # tokens
MAX_BYTES = 1 << 30  # of kept tensors; a sweep's prompts come cell by cell, so few are read again


class Texts:
    """The prompts of one loaded pipeline."""

    def __init__(self, pipeline: Any, family: Family):
        self._pipeline, self._family = pipeline, family
        self._kept: OrderedDict[Hashable, Encoded] = OrderedDict()
        self._num_bytes = 0

    def encode(self, request: Request) -> Encoded:
        """Return the tensors of a request's prompt and of its negative prompt, if that acts."""
        params = request.params
        encoded = dict(self._get(request.prompt, params, is_negative=False))
        if self._family.compares(params):
            negative = self._get(str(params["negative_prompt"]), params, is_negative=True)
            encoded.update({f"negative_{name}": value for name, value in negative.items()})
        return encoded

    def _get(self, text: str, params: Mapping[str, Scalar], is_negative: bool) -> Encoded:
        acting = ("lora", "lora_scale", "max_sequence_length", "instruction")
        key = (text, is_negative, *(params.get(name) for name in acting))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        encoded = self._read(text, params, is_negative)
        self._kept[key] = encoded
        self._num_bytes += _num_bytes(encoded)
        while self._num_bytes > MAX_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._num_bytes -= _num_bytes(oldest)
        return encoded

    def _read(self, text: str, params: Mapping[str, Scalar], is_negative: bool) -> Encoded:
        """Encode one text as the pipeline's own call would."""
        if not self._family.embeds:
            return {"prompt": [text]}
        pipeline = self._pipeline
        has_instruction = params.get("instruction") and not is_negative
        arguments = {
            "prompt": [text],
            "prompt_2": None,
            "prompt_3": None,
            "device": pipeline._execution_device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": False,
            "max_sequence_length": params.get("max_sequence_length"),
            "complex_human_instruction": _instruction(pipeline) if has_instruction else None,
        }
        accepted = inspect.signature(pipeline.encode_prompt).parameters
        with torch.inference_mode():
            values = pipeline.encode_prompt(
                **{name: value for name, value in arguments.items() if name in accepted}
            )
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


def shapes(encoded: Encoded) -> Hashable:
    """Return what requests of one batch must share, so that none is padded for a neighbour.

    Prompts that the pipeline reads itself must be the same.
    """
    return tuple(
        (name, tuple(value) if name == "prompt" else tuple(_tensor(value).shape))
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


def _tensor(value: Any) -> torch.Tensor:
    return value[0] if isinstance(value, list) else value


def _num_bytes(encoded: Encoded) -> int:
    tensors = (_tensor(value) for value in encoded.values())
    return sum(each.nbytes for each in tensors if isinstance(each, torch.Tensor))


def _instruction(pipeline: Any) -> Any:
    """Return the text that the pipeline puts before a prompt when it is asked for nothing else."""
    return inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
