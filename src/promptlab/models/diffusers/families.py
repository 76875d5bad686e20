"""The families of text-to-image pipelines: which parameters each accepts, and what they mean.

Takes the configs of a saved pipeline (plain dicts), returns its family with parameters, sizes and
schedulers; families.yaml is the table. Imports neither torch nor diffusers, so everything here is
checked while planning.

A parameter has diffusers' own name, except where one name means two things: what FLUX.1 calls
`guidance_scale` is a number that the network reads, and what Z-Image calls so is off at 0 and
one lower for the same strength. Those have names of their own, so that a sweep over families
refuses the name instead of mixing the meanings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from promptlab.errors import ParameterError
from promptlab.models.protocol import Parameter
from promptlab.records import Scalar

Params = Mapping[str, Scalar]
DEFAULT = "default"  # the scheduler that the checkpoint was saved with
MOST_IMAGES = 16  # in a batch: the fillers of a larger one cost more than it saves

# By promptlab's parameter: diffusers' argument; up to where no negative prompt acts (None: it
# never does); a description.
_GUIDANCES: Mapping[str, tuple[str, float | None, str]] = {
    "guidance_scale": ("guidance_scale", 1.0, "classifier-free; off up to 1"),
    "true_cfg_scale": ("true_cfg_scale", 1.0, "classifier-free; off up to 1"),
    "distilled_guidance_scale": ("guidance_scale", None, "a number that the network reads"),
    "added_guidance_scale": ("guidance_scale", 0.0, "classifier-free; 4 is others' 5, 0 is off"),
}
_FURTHER: Mapping[str, Parameter] = {
    "eta": Parameter(float, None, 0, 1, description="noise of scheduler ddim"),
    "max_sequence_length": Parameter(int, None, 8, 1024, description="tokens of a prompt"),
    "instruction": Parameter(bool, None, description="a text that asks to enhance the prompt"),
}


@dataclass(frozen=True)
class Family:
    """What pipelines of one architecture have in common."""

    name: str
    guidance: Mapping[str, float]  # promptlab's parameters, and their defaults
    embeds: tuple[str | None, ...] = ()  # what encode_prompt returns; (): prompts go as texts
    further: Params = field(default_factory=dict)  # defaults of parameters that not all have
    schedulers: str = "flow"  # kind
    steps: int = 50
    size: int = 1024  # px a side that the checkpoint was trained for
    multiple: int = 16  # px; both sides are multiples of it
    half_dtype: str = "bfloat16"  # on CUDA, when no dtype is chosen
    fast_images: int = 2  # of `size` in a batch; a larger batch draws no faster
    takes_source: bool = False  # whether diffusers has its image-to-image pipeline
    own_scheduler: str = ""  # class that the checkpoint was saved with
    is_own_exact: bool = True  # whether that one repeats an image from its seed
    batch_size: int | None = None  # of padded batches; None: chosen for a size of images

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters, by name."""
        px = f"px, a multiple of {self.multiple}"
        side = Parameter(int, self.size, self.multiple, 8192, description=px)
        found = {"steps": Parameter(int, self.steps, 1, 1000)}
        for name, default in self.guidance.items():
            text = _GUIDANCES[name][2] if self.embeds else "as the pipeline's documentation says"
            found[name] = Parameter(float, default, 0, 100, description=text)
        if self._off_at:
            found["negative_prompt"] = Parameter(str, "")
        found |= {"width": side, "height": side}
        names = (DEFAULT, *schedulers(self.schedulers))
        found["scheduler"] = Parameter(str, DEFAULT, choices=names)
        found |= {name: replace(_FURTHER[name], default=d) for name, d in self.further.items()}
        if self.embeds:
            found["lora"] = Parameter(str, "", description="FILE[:STRENGTH] + FILE[:STRENGTH] …")
            found["lora_scale"] = Parameter(float, 1.0, -10, 10, description="times the strengths")
        if self.takes_source:
            text = "share of the steps that draw the parent's image anew"
            strength = Parameter(float, 0.6, 0, 1, description=text, is_for_source=True)
            found["strength"] = strength
        text = "images computed together, shows in the bits; by default what fits and is fast"
        batch = Parameter(int, self.batch_size, 1, 1024, description=text)
        return {**found, "padded_batch": batch}

    @property
    def _off_at(self) -> dict[str, float]:
        """Up to where no negative prompt acts, by parameter."""
        ends = {name: _GUIDANCES[name][1] for name in self.guidance if self.embeds}
        return {name: end for name, end in ends.items() if end is not None}

    def compares(self, params: Params) -> bool:
        """Whether the image is compared with what the negative prompt would give."""
        return any(float(params[name] or 0) > end for name, end in self._off_at.items())

    def settle(self, params: Params) -> dict[str, Scalar]:
        """Return the parameters as they act; what cannot act gets its default.

        Raises ParameterError for a size that the pipeline would round, for a strength that leaves
        no step, and for a scheduler that would not repeat an image.
        """
        settled = dict(params)
        if settled["scheduler"] == DEFAULT and not self.is_own_exact:
            others = ", ".join(schedulers(self.schedulers)) or "…"
            raise ParameterError(
                f"The checkpoint's own scheduler {self.own_scheduler} does not repeat an image "
                f"from its seed here. Choose scheduler={others}."
            )
        for side in ("width", "height"):
            if int(settled[side] or 0) % self.multiple:
                raise ParameterError(
                    f"{side}={settled[side]}: expected a multiple of {self.multiple} px, which "
                    f"the {self.name} pipeline needs."
                )
        steps, strength = int(params["steps"] or 0), params.get("strength")
        if strength is not None and int(steps * float(strength)) < 1:
            raise ParameterError(
                f"strength={strength} of {steps} steps leaves no step: expected at least "
                f"{1 / steps:.3g}, or more steps."
            )
        if "negative_prompt" in settled and not self.compares(params):
            settled["negative_prompt"] = ""
        if "eta" in settled and self.scheduler_class(str(params["scheduler"])) != "DDIMScheduler":
            settled["eta"] = 0.0
        return settled

    def largest_batch(self, width: int, height: int) -> int:
        """Return how many images of a size are worth computing together: a power of two."""
        number = self.fast_images * self.size**2 // (width * height)
        return 1 << (max(1, min(MOST_IMAGES, number)).bit_length() - 1)

    def arguments(self, params: Params) -> dict[str, Any]:
        """Return diffusers' arguments for parameters; one pipeline takes not all of them."""
        names = ("width", "height", "strength", *self.further)
        return {
            "num_inference_steps": params["steps"],
            **{name: params[name] for name in names if name in params},
            **{_GUIDANCES[name][0]: params[name] for name in self.guidance},
            "negative_prompt": None,  # where it acts, its embeddings are given
            "use_resolution_binning": False,  # Sana would draw another size and scale the picture
        }

    def scheduler_class(self, name: str) -> str:
        """Return the class of a scheduler of this family."""
        return self.own_scheduler if name == DEFAULT else schedulers(self.schedulers)[name][0]


@cache
def _table() -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))


def schedulers(kind: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Return the schedulers of a kind: name -> class and settings that differ from its config."""
    return {name: tuple(entry) for name, entry in _table()["schedulers"][kind].items()}


def find_family(
    pipeline: str, configs: Mapping[str, Mapping[str, Any]], batch_size: int | None = None
) -> Family:
    """Return the family of a pipeline class, with what its checkpoint's configs say.

    `configs` are by component. A class that is not listed is of the family "other".
    """
    families = _table()["families"]
    row = families.get(pipeline, families["other"])
    family = Family(**{**row, "embeds": tuple(row.get("embeds", ())), "batch_size": batch_size})
    if family.name in ("sd15", "sdxl") and "unet" in configs:
        blocks = configs.get("vae", {}).get("block_out_channels", [0] * 4)
        size = int(configs["unet"].get("sample_size", 0)) << (len(blocks) - 1)
        family = replace(family, size=size or family.size)
    own = configs.get("scheduler", {})
    if family.name in ("flux", "flux2_klein"):
        is_read = configs.get("transformer", {}).get("guidance_embeds") is not False
        dropped = () if is_read else ("distilled_guidance_scale",)
        if configs.get("", {}).get("is_distilled"):
            dropped = ("guidance_scale",)
        kept = {name: value for name, value in family.guidance.items() if name not in dropped}
        # Without dynamic shifting only these start from the sigmas of the pipeline.
        kind = "flow" if own.get("use_dynamic_shifting") else "flow_with_sigmas"
        family = replace(family, guidance=kept, schedulers=kind)
    own_class = str(own.get("_class_name", ""))
    known = {name for name, _ in schedulers(family.schedulers).values()}
    is_exact = own_class in known if known and own else own_class != "DPMSolverSDEScheduler"
    is_noisy = bool(own.get("stochastic_sampling"))
    return replace(family, own_scheduler=own_class, is_own_exact=is_exact and not is_noisy)
