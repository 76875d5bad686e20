"""min-dalle's own loop, timed step by step, with random weights and without a network.

Takes the modules that promptlab.models.dalle.upstream builds; returns seconds. The loop is
min-dalle's `generate_raw_image_stream`, left after a stated number of steps: its steps all cost
the same, whatever the position.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch

from promptlab.models.dalle import upstream


class _EnoughStepsError(Exception):
    """Leaves min-dalle's loop."""


class MinDalleTimer:
    """A MinDalle object around given modules, and the seconds of its steps."""

    def __init__(
        self,
        modules: tuple[Any, Any, Any],
        tokenizer: Any,
        device: str = "cpu",
        dtype: str = "float32",
    ):
        self.device = device
        encoder, decoder, detokenizer = modules  # on the device
        cls = upstream.import_min_dalle().MinDalle
        self._model = cls.__new__(cls)  # its constructor would contact the network
        vars(self._model).update(
            device=device,
            dtype=getattr(torch, dtype),
            is_reusable=True,
            is_verbose=False,
            text_token_count=64,
            layer_count=decoder.layer_count,
            embed_count=decoder.embed_count,
            tokenizer=tokenizer,
            encoder=encoder,
            decoder=decoder,
            detokenizer=detokenizer,
        )

    def step_seconds(self, prompt: str, grid_size: int, num_steps: int) -> list[float]:
        """Return the seconds of the first steps of one grid of images."""
        seconds: list[float] = []
        sample = self._model.decoder.sample_tokens

        def timed_sample(**arguments: Any) -> Any:
            started = time.perf_counter()
            result = sample(**arguments)
            self._wait()
            seconds.append(time.perf_counter() - started)
            if len(seconds) == num_steps:
                raise _EnoughStepsError
            return result

        self._model.decoder.sample_tokens = timed_sample
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # torch.cuda.amp.autocast, deprecated and off
                for _ in self._model.generate_raw_image_stream(prompt, seed=1, grid_size=grid_size):
                    pass
        except _EnoughStepsError:
            pass
        finally:
            del self._model.decoder.sample_tokens
        return seconds

    def detokenize_seconds(self, num_images: int) -> float:
        """Return the seconds of detokenizing one grid of images."""
        tokens = torch.randint(2**14, (num_images, 256), device=self.device)
        with torch.no_grad():
            self._wait()
            started = time.perf_counter()
            self._model.image_grid_from_tokens(tokens, is_seamless=False)
            self._wait()
            return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
