"""The jobs of a multirun, counted before Hydra enumerates them.

Takes parsed overrides and the multirun's own config; refuses what exceeds its limit. Composes
nothing and lists nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from promptlab.configs.settings import DEFAULT_LIMIT, keys_of
from promptlab.errors import PlanTooLargeError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MAX_JOBS = 200_000  # jobs that Hydra may compose for rules, zips or samples to choose from


def check_num_jobs(overrides: Iterable[Override], config: Mapping[str, Any]) -> None:
    """Refuse a multirun that is too large before its jobs are enumerated.

    `config` is the multirun's own. Rules, zips and samples may leave few of many jobs, so with
    them the bound is what Hydra can compose rather than the limit on images.
    """
    sizes: dict[str, int] = {}
    narrowing = keys_of("narrowing")  # they may keep only a few of many jobs
    settings: dict[str, Any] = {key: config.get(key) for key in ("limit", *narrowing)}
    for override in overrides:
        key = override.key_or_group
        is_axis = override.is_sweep_override()
        # As Hydra does: a later override of a key replaces an earlier one.
        sizes[override.get_key_element()] = _num_values(override) if is_axis else 1
        if key in settings and not is_axis:
            settings[key] = override.value()
    num_jobs = math.prod(sizes.values())
    limit = settings["limit"] if isinstance(settings["limit"], int) else DEFAULT_LIMIT
    is_narrowed = any(settings[key] for key in narrowing)
    bound = max(limit, MAX_JOBS) if is_narrowed else limit
    if num_jobs > bound:
        axes = " × ".join(f"{key.lstrip('+')} {size:,}" for key, size in sizes.items() if size > 1)
        raise PlanTooLargeError(
            f"The sweep holds {num_jobs:,} cells or more ({axes}), more than its limit of "
            f"{bound:,}. To draw them all add limit={num_jobs}; to draw fewer name fewer values."
        )


def _num_values(override: Override) -> int:
    from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

    value = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None:
        return max(0, math.ceil((value.stop - value.start) / value.step)) if value.step else 1
    return 1  # a glob: as many as the group has options, never many
