"""The money of a sweep: prices before it begins, and the ledger that its models spend from.

Takes a plan and settings; refuses what nobody could answer for. Draws nothing.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from promptlab.configs.settings import Settings
from promptlab.errors import ConfigError
from promptlab.models.complete import has_own
from promptlab.models.http.ledger import Ledger
from promptlab.models.machine import cache_folder
from promptlab.paths import RunPaths
from promptlab.planning.plan import Plan


def estimate(plan: Plan) -> dict[str, float]:
    """Return what each paid model's images cost in US dollars, by model_key; NaN: unknown."""
    totals: dict[str, float] = {}
    for cell in plan.cells:
        model = plan.models[cell.model_key].model
        price = model.price_of(plan.request(cell, cell.seeds[0]))
        if price is not None:
            total = totals.get(cell.model_key, 0.0)
            totals[cell.model_key] = total + price * len(cell.seeds)
    return totals


def check_prices(plan: Plan, settings: Settings) -> None:
    """Refuse a sweep of unknown cost, unless that is allowed, and a budget that cannot hold."""
    totals = estimate(plan)
    unknown = [plan.models[key].model.name for key, total in totals.items() if math.isnan(total)]
    for key in totals if settings.budget is not None else ():
        if not has_own(plan.models[key].model, "use_ledger"):
            raise ConfigError(
                f"budget={settings.budget:g}: the model {plan.models[key].model.name} has a price "
                "and no use_ledger: no budget could stop it. Leave budget out, or draw it in a "
                "sweep of its own."
            )
    if not unknown:
        return
    names = ", ".join(unknown)
    if settings.budget is not None:
        raise ConfigError(
            f"budget={settings.budget:g}: the price of {names} is unknown, so no budget can hold. "
            "Give it: model.price=USD_AN_IMAGE, or an entry in conf/prices.yaml."
        )
    if not settings.allow_unknown_price:
        raise ConfigError(
            f"The price of {names} with these parameters is unknown. Give it: "
            "model.price=USD_AN_IMAGE, or an entry in conf/prices.yaml; or draw at any price: "
            "allow_unknown_price=true."
        )


def ledger_of(paths: RunPaths, budget_usd: float | None) -> Ledger:
    """Return the ledger of a run; that of a run on an object store lies in this machine's cache."""
    if "://" not in paths.root:
        return Ledger(Path(paths.requests), budget_usd)
    name = hashlib.sha256(paths.root.encode()).hexdigest()[:16]
    return Ledger(cache_folder() / "requests" / name, budget_usd)
