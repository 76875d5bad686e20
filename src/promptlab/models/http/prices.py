"""Prices of hosted models, from conf/prices.yaml: estimates beforehand, costs afterwards.

The packaged file is dated; one in the working directory's conf/ adds to it and replaces entries.
Knows no API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from promptlab.configs.locations import packaged_conf
from promptlab.errors import ConfigError
from promptlab.models.http.service import UNKNOWN

MILLION = 1e6
BYTES_PER_TOKEN = 1.0  # of a prompt at least, so that an estimate is not too low


@dataclass(frozen=True)
class Price:
    """What a model's images cost in US dollars."""

    image: float | Mapping[str, float] | None = None  # an image; by quality where that differs
    text_tokens: float | None = None  # a million tokens of prompts
    output_tokens: float | None = None  # a million tokens of images
    second: float | None = None  # a second of computing
    seconds: float = 10.0  # that an image takes, for estimates
    as_of: str = ""  # when the price was looked up
    source: str = ""  # where

    def estimate(self, prompt: str, quality: str | None, size: tuple[int, int] | None) -> float:
        """Return what an image will cost, rather too much; UNKNOWN where nobody knows.

        Prices by quality are those of a megapixel; larger images cost in proportion.
        """
        if self.second is not None:
            return self.second * self.seconds
        if self.image is None:
            return UNKNOWN
        if isinstance(self.image, float | int):
            return float(self.image)
        chosen = str(quality)
        price = max(self.image.values()) if chosen in ("auto", "None") else self.image.get(chosen)
        if price is None:
            return UNKNOWN
        width, height = size or (1024, 1024)
        num_tokens = len(prompt.encode()) / BYTES_PER_TOKEN
        share = max(1.0, width * height / 1024**2)
        return price * share + (self.text_tokens or 0.0) / MILLION * num_tokens

    def of_tokens(self, usage: Mapping[str, Any]) -> float | None:
        """Return what an answer cost by the tokens that it names, None if it names none."""
        if self.text_tokens is None or self.output_tokens is None:
            return None
        taken, made = usage.get("input_tokens"), usage.get("output_tokens")
        if not isinstance(taken, int) or not isinstance(made, int):
            return None
        return (taken * self.text_tokens + made * self.output_tokens) / MILLION


@dataclass(frozen=True)
class PriceList:
    """All prices that are known."""

    date: str
    prices: Mapping[str, Price]

    def of(self, model: str) -> Price:
        """Return the price of a model, by its name at the service."""
        return self.prices.get(model, Price())


def read_prices() -> PriceList:
    """Return the packaged prices with those of the working directory over them."""
    import yaml

    date, prices = "", {}
    names = {one.name for one in fields(Price)}
    for path in (Path(packaged_conf()) / "prices.yaml", Path("conf/prices.yaml")):
        if not path.is_file():
            continue
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            date = str(content.get("date") or date)
            for model, entry in (content.get("models") or {}).items():
                unknown = entry.keys() - names
                if unknown:
                    raise ValueError(f"{model}: unknown {', '.join(sorted(unknown))}")
                prices[model] = Price(**{**entry, "as_of": str(entry.get("as_of", ""))})
        except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"{path} cannot be read: {' '.join(str(error).split())}. Expected `models: "
                "{NAME: {image: 0.04}}`; the keys are " + ", ".join(sorted(names)) + "."
            ) from None
    return PriceList(date, prices)
