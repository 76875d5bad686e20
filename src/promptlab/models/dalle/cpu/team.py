"""Threads that share one image's work, each with buffers of its own.

Takes pieces of work that do not depend on each other; returns their answers in order. Every piece
is computed by one thread, so the bits do not depend on how many there are. Knows nothing of images.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from promptlab.models.dalle.cpu.buffers import Buffers
from promptlab.models.dalle.cpu.lanes import one_thread, one_thread_each

Piece = TypeVar("Piece")
Answer = TypeVar("Answer")


class Team:
    """`num_threads` threads that the caller waits for; a team of one uses the caller's thread."""

    def __init__(self, num_threads: int = 1):
        self.own = Buffers()  # the caller's, for the assembled results
        self._idle: queue.LifoQueue[Buffers] = queue.LifoQueue()
        for _ in range(num_threads):
            self._idle.put(Buffers())
        self._num_threads = num_threads
        self._pool: ThreadPoolExecutor | None = None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Provide threads for `map`; in each of them torch uses one thread."""
        with one_thread():
            if self._num_threads == 1:
                yield
                return
            with one_thread_each(self._num_threads) as self._pool:
                try:
                    yield
                finally:
                    self._pool = None

    def map(
        self, work: Callable[[Piece, Buffers], Answer], pieces: Sequence[Piece]
    ) -> list[Answer]:
        """Return the answer of every piece, in order."""

        @torch.inference_mode()
        def answer(piece: Piece) -> Answer:
            buffers = self._idle.get()
            try:
                return work(piece, buffers)
            finally:
                self._idle.put(buffers)

        if self._pool is None or len(pieces) == 1:
            return [answer(piece) for piece in pieces]
        return list(self._pool.map(answer, pieces))
