"""Random numbers as a pure function of (seed, step): Philox 4x32-10, counter-based.

Takes seeds, returns uniforms. Keeps no state, so an image's numbers do not depend on what was
drawn before it or beside it, nor on the device: they are integers until the last line.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NUM_ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)


def uniforms(seeds: Sequence[int], num_steps: int) -> np.ndarray:
    """Return float64 [seed, step] in the open interval (0, 1).

    Any integer is a seed; seeds that differ by a multiple of 2**64 are the same.
    """
    seed = np.array([value % 2**64 for value in seeds], dtype=np.uint64)[:, None]
    step = np.arange(num_steps, dtype=np.uint64)[None, :]
    words = philox(
        counter=(step, np.zeros_like(step), np.zeros_like(step), np.zeros_like(step)),
        key=(seed & LOW_32, seed >> SHIFT_32),
    )
    bits_48 = (words[0] << np.uint64(16)) | (words[1] >> np.uint64(16))
    return (bits_48.astype(np.float64) + 0.5) * 2.0**-48


def philox(
    counter: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    key: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return four random 32-bit words (in uint64 arrays) for a counter of four and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(NUM_ROUNDS):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> SHIFT_32) ^ c1 ^ k0,
            product1 & LOW_32,
            (product0 >> SHIFT_32) ^ c3 ^ k1,
            product0 & LOW_32,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) & LOW_32, (k1 + KEY_STEPS[1]) & LOW_32
    return c0, c1, c2, c3
