"""The worker: one model in memory, block after block, finished images out.

Takes blocks and a function that sends messages; runs inside a process or an actor, and knows not
which. Encodes its images itself.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.engine import draw, resident
from promptlab.errors import ModelError, ModelLostError, PlanOutdatedError, PromptlabError
from promptlab.finishing import finishing
from promptlab.machine import describe_numerics
from promptlab.models.batching import describe_error
from promptlab.models.protocol import CompleteModel
from promptlab.models.registry import open_model, open_model_for_plan
from promptlab.png import compress
from promptlab.records import Drawn, Numerics, Request
from promptlab.workers.messages import (
    Beat,
    Block,
    Gone,
    Idle,
    Image,
    Line,
    Loaded,
    Message,
    ModelCall,
    Preview,
    Ready,
)

if TYPE_CHECKING:
    import numpy as np

BEAT_S = 1.0  # between two heartbeats

Send = Callable[[Message], None]


def work(blocks: Iterable[Block], send: Send) -> None:
    """Draw blocks until there are no more, or until the model can draw none; then say Gone."""
    with _beating(send), _logging(send):
        try:
            _draw_all(blocks, send)
            send(Gone("it has finished"))
        except PlanOutdatedError as error:
            send(Gone(str(error), is_outdated=True))
        except ModelLostError as error:
            send(Gone(str(error), is_device=True))
        except PromptlabError as error:
            send(Gone(str(error), is_final=True))
        except Exception as error:
            send(Gone(describe_error(error)))


def describe(node: Mapping[str, Any] | None, may_download: bool) -> Numerics:
    """Return the numerics that this process would draw with."""
    return (open_model if may_download else open_model_for_plan)(node).describe()


def find_modules(sys_path: Sequence[str]) -> None:
    """Let a user's own modules be found as the sweep finds them, where the folders are shared."""
    sys.path += [folder for folder in sys_path if folder not in sys.path]


def _draw_all(blocks: Iterable[Block], send: Send) -> None:
    def deliver(drawn: Drawn) -> None:
        send(Image(drawn.request.image_id, drawn.facts, drawn.body))

    def show(step: int, requests: Sequence[Request], images: np.ndarray) -> None:
        for request, pixels in zip(requests, images, strict=True):
            send(Preview(request.image_id, step, compress(pixels)))

    send(Ready())
    loaded: ModelCall | None = None
    with contextlib.ExitStack() as stack, finishing(deliver) as take:
        for block in blocks:
            if block.model != loaded:
                stack.close()  # one model at a time
                model = open_call(block.model)
                stack.enter_context(resident(model))
                loaded = block.model
                send(Loaded(describe_numerics(block.model.numerics.device)))
            began_at = time.monotonic()
            for result in draw(model, block.requests, show if block.wants_previews else None):
                take(result, block.model.numerics)
            send(Idle(time.monotonic() - began_at))


def open_call(call: ModelCall) -> CompleteModel:
    """Return the model of a call; raises ModelError if it would draw other images here."""
    model = open_model(call.node)
    if model.fingerprint != call.fingerprint:
        raise ModelError(
            f"The weights of {call.name} are others here: expected the fingerprint "
            f"{call.fingerprint}, got {model.fingerprint}."
        )
    here, planned = model.describe(), call.numerics
    if (here.dtype, here.padded_batch) != (planned.dtype, planned.padded_batch):
        raise ModelError(
            f"{call.name} would draw other bits here: the plan has {_describe(planned)}, this "
            f"worker {_describe(here)}. Set dtype and batch size in the model's config, or leave "
            "this device out (CUDA_VISIBLE_DEVICES)."
        )
    return model


def _describe(numerics: Numerics) -> str:
    padded = numerics.padded_batch
    return numerics.dtype if padded is None else f"{numerics.dtype} in batches of {padded}"


@contextlib.contextmanager
def _beating(send: Send) -> Iterator[None]:
    """Send heartbeats from a thread of their own."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(BEAT_S):
            send(Beat())

    thread = threading.Thread(target=beat, name="promptlab-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()


@contextlib.contextmanager
def _logging(send: Send) -> Iterator[None]:
    """Send what promptlab logs here to the sweep's log."""

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            send(Line(record.levelno, record.getMessage()))

    logger, sender = logging.getLogger("promptlab"), Sender(logging.INFO)
    logger.addHandler(sender)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(sender)
