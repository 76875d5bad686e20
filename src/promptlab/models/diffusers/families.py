"""The families of text-to-image pipelines: which parameters each accepts, and what they mean.

Takes the configs of a saved pipeline (plain dicts), returns its family with parameters, sizes and
schedulers. Imports neither torch nor diffusers, so everything here is checked while planning.

A parameter has diffusers' own name, except where one name means two things: what FLUX.1 calls
`guidance_scale` is a number that the network reads, and what Z-Image calls so is off at 0 and
one lower for the same strength. Those have names of their own, so that a sweep over families
refuses the name instead of mixing the meanings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from promptlab.errors import ParameterError
from promptlab.models.protocol import Parameter
from promptlab.records import Scalar

Configs = Mapping[str, Mapping[str, Any]]  # a pipeline's component -> its config

# Solvers of the diffusion equation: name -> class and the settings that differ from the
# checkpoint's. Left out: DPMSolverSDEScheduler ignores generators, LMS needs SciPy.
_KARRAS = {"use_karras_sigmas": True}
_SDE = {"algorithm_type": "sde-dpmsolver++"}
DIFFUSION_SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", _KARRAS),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", _KARRAS),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", _SDE),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
# Those of flow models. Their pipelines hand no generator to a scheduler, so that a stochastic one
# would draw from global state: only solvers without noise are accepted.
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
FLOW_SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", _FLOW),
    "unipc": ("UniPCMultistepScheduler", _FLOW),
    "deis": ("DEISMultistepScheduler", _FLOW),
}
# Of these, what Z-Image's pipeline can use; what takes the sigmas that others compute themselves.
_EULER = {"euler": FLOW_SCHEDULERS["euler"]}
_WITH_SIGMAS = {**_EULER, "unipc": FLOW_SCHEDULERS["unipc"]}
_TAKES_ETA = "DDIMScheduler"
DEFAULT = "default"  # the scheduler that the checkpoint was saved with


@dataclass(frozen=True, slots=True)
class Guidance:
    """One number that pulls an image towards its prompt."""

    name: str  # promptlab's parameter
    argument: str  # diffusers' argument
    default: float
    off_at: float | None  # up to here nothing is compared; None: no comparison at all
    description: str

    def is_on(self, params: Mapping[str, Scalar]) -> bool:
        """Whether the image is compared with what the negative prompt would give."""
        return self.off_at is not None and float(params[self.name] or 0) > self.off_at


_CFG = Guidance("guidance_scale", "guidance_scale", 7.5, 1.0, "classifier-free; off up to 1")
_TRUE_CFG = Guidance("true_cfg_scale", "true_cfg_scale", 1.0, 1.0, "classifier-free; off up to 1")
_DISTILLED = Guidance(
    "distilled_guidance_scale", "guidance_scale", 3.5, None, "a number that the network reads"
)
_ADDED = Guidance(
    "added_guidance_scale", "guidance_scale", 5.0, 0.0, "classifier-free; 4 is others' 5, 0 is off"
)


@dataclass(frozen=True, slots=True)
class Family:
    """What pipelines of one architecture have in common."""

    name: str
    guidances: tuple[Guidance, ...]
    embeds: tuple[str | None, ...]  # what encode_prompt returns, in order; (): prompts go as texts
    steps: int
    size: int = 1024  # px a side that the checkpoint was trained for
    multiple: int = 16  # px; both sides are multiples of it
    text_length: int | None = None  # tokens, where a pipeline lets one choose
    schedulers: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None
    own_scheduler: str = ""  # class that the checkpoint was saved with
    is_own_exact: bool = True  # whether that one repeats an image from its seed
    takes_eta: bool = False
    takes_lora: bool = True
    takes_instruction: bool = False  # Sana's text that asks its reader to enhance the prompt
    half_dtype: str = "bfloat16"  # on CUDA, when no dtype is chosen
    image_gb: float = 4.0  # memory of one more image in a batch, at `size`, with half_dtype
    most_images: int = 2  # a larger batch draws no faster

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters, by name."""
        side = (self.size, self.multiple, 8192)
        found = {"steps": Parameter(int, self.steps, 1, 1000)}
        for guidance in self.guidances:
            found[guidance.name] = Parameter(
                float, guidance.default, 0, 100, description=guidance.description
            )
        if any(guidance.off_at is not None for guidance in self.guidances):
            found["negative_prompt"] = Parameter(str, "")
        found["width"] = Parameter(int, *side, description=f"px, a multiple of {self.multiple}")
        found["height"] = Parameter(int, *side, description=f"px, a multiple of {self.multiple}")
        names = (DEFAULT, *(self.schedulers or ()))
        found["scheduler"] = Parameter(str, DEFAULT, choices=names)
        if self.takes_eta:
            found["eta"] = Parameter(float, 0.0, 0, 1, description="noise of scheduler ddim")
        if self.text_length is not None:
            found["max_sequence_length"] = Parameter(int, self.text_length, 8, 1024)
        if self.takes_instruction:
            found["instruction"] = Parameter(bool, True)
        if self.takes_lora:
            found["lora"] = Parameter(str, "", description="FILE[:STRENGTH] + FILE[:STRENGTH] …")
            found["lora_scale"] = Parameter(float, 1.0, -10, 10, description="times the strengths")
        return found

    def settle(self, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return the parameters as they act; what cannot act gets its default.

        Raises ParameterError for a size that the pipeline would round, and for a scheduler that
        would not repeat an image.
        """
        settled = dict(params)
        if settled["scheduler"] == DEFAULT and not self.is_own_exact:
            raise ParameterError(
                f"The checkpoint's own scheduler {self.own_scheduler} does not repeat an image "
                f"from its seed here. Choose scheduler={', '.join(self.schedulers or ('…',))}."
            )
        for side in ("width", "height"):
            if int(settled[side] or 0) % self.multiple:
                raise ParameterError(
                    f"{side}={settled[side]}: expected a multiple of {self.multiple} px, which "
                    f"the {self.name} pipeline needs."
                )
        if "negative_prompt" in settled and not self.compares(params):
            settled["negative_prompt"] = ""
        if "eta" in settled and self.scheduler_class(str(params["scheduler"])) != _TAKES_ETA:
            settled["eta"] = 0.0
        return settled

    def compares(self, params: Mapping[str, Scalar]) -> bool:
        """Whether the negative prompt acts."""
        return any(guidance.is_on(params) for guidance in self.guidances)

    def arguments(self, params: Mapping[str, Scalar]) -> dict[str, Any]:
        """Return diffusers' arguments of a call, but for texts, generators and scheduler."""
        arguments: dict[str, Any] = {
            "num_inference_steps": params["steps"],
            "width": params["width"],
            "height": params["height"],
            **{guidance.argument: params[guidance.name] for guidance in self.guidances},
        }
        if self.takes_eta:
            arguments["eta"] = params["eta"]
        if self.text_length is not None:
            arguments["max_sequence_length"] = params["max_sequence_length"]
        if self.name == "sana":  # otherwise it draws another size and scales the picture
            arguments["use_resolution_binning"] = False
            arguments["negative_prompt"] = None
        return arguments

    def scheduler_class(self, name: str) -> str:
        """Return the class of a scheduler of this family."""
        return self.own_scheduler if name == DEFAULT else (self.schedulers or {})[name][0]


_CLIP = ("prompt_embeds", None)
_CLIP_POOLED = ("prompt_embeds", None, "pooled_prompt_embeds", None)
_FAMILIES: Mapping[str, Family] = {  # by the class in model_index.json
    "StableDiffusionPipeline": Family(
        "sd15",
        (_CFG,),
        _CLIP,
        steps=50,
        size=512,
        multiple=8,
        schedulers=DIFFUSION_SCHEDULERS,
        takes_eta=True,
        half_dtype="float16",
        image_gb=0.6,
        most_images=16,
    ),
    "StableDiffusionXLPipeline": Family(
        "sdxl",
        (replace(_CFG, default=5.0),),
        _CLIP_POOLED,
        steps=50,
        multiple=8,
        schedulers=DIFFUSION_SCHEDULERS,
        takes_eta=True,
        half_dtype="float16",
        image_gb=1.5,
        most_images=8,
    ),
    "StableDiffusion3Pipeline": Family(
        "sd3",
        (replace(_CFG, default=7.0),),
        _CLIP_POOLED,
        steps=28,
        text_length=256,
        schedulers=FLOW_SCHEDULERS,
        image_gb=2.0,
        most_images=4,
    ),
    "FluxPipeline": Family(
        "flux",
        (_DISTILLED, _TRUE_CFG),
        ("prompt_embeds", "pooled_prompt_embeds", None),
        steps=28,
        text_length=512,
        schedulers=FLOW_SCHEDULERS,
    ),
    "Flux2KleinPipeline": Family(
        "flux2_klein",
        (replace(_CFG, default=4.0),),
        ("prompt_embeds", None),
        steps=50,
        text_length=512,
        schedulers=FLOW_SCHEDULERS,
    ),
    "ZImagePipeline": Family(
        "z_image",
        (_ADDED,),
        ("prompt_embeds", None),
        steps=50,
        text_length=512,
        schedulers=_EULER,
    ),
    "QwenImagePipeline": Family(
        "qwen_image",
        (replace(_TRUE_CFG, default=4.0),),
        ("prompt_embeds", "prompt_embeds_mask"),
        steps=50,
        text_length=512,
        schedulers=_WITH_SIGMAS,
    ),
    "SanaPipeline": Family(
        "sana",
        (replace(_CFG, default=4.5),),
        ("prompt_embeds", "prompt_attention_mask", None, None),
        steps=20,
        multiple=32,
        text_length=300,
        schedulers=FLOW_SCHEDULERS,
        takes_instruction=True,
        image_gb=1.0,
        most_images=8,
    ),
}
_OTHER = Family(
    "other",
    (replace(_CFG, off_at=None, description="as the pipeline's own documentation says"),),
    (),
    steps=30,
    takes_lora=False,
)


def find_family(pipeline: str, configs: Configs) -> Family:
    """Return the family of a pipeline class, with what its checkpoint's configs say.

    A class that is not listed gets the parameters that any pipeline has.
    """
    family = _FAMILIES.get(pipeline, _OTHER)
    if family.name in ("sd15", "sdxl") and "unet" in configs:
        blocks = configs.get("vae", {}).get("block_out_channels", [0] * 4)
        size = int(configs["unet"].get("sample_size", 0)) << (len(blocks) - 1)
        family = replace(family, size=size or family.size)
    if family.name == "flux" and configs.get("transformer", {}).get("guidance_embeds") is False:
        family = replace(family, guidances=(_TRUE_CFG,))
    if family.name == "flux2_klein" and configs.get("", {}).get("is_distilled"):
        family = replace(family, guidances=())
    own = configs.get("scheduler", {})
    if family.name in ("flux", "flux2_klein") and not own.get("use_dynamic_shifting"):
        family = replace(family, schedulers=_WITH_SIGMAS)  # the others insist on shifting
    return replace(
        family,
        own_scheduler=str(own.get("_class_name", "")),
        is_own_exact=_is_exact(family, own),
    )


def _is_exact(family: Family, own: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's own scheduler draws nothing from global state."""
    if family.schedulers is None or not own:
        return own.get("_class_name") != "DPMSolverSDEScheduler"
    known = {name for name, _ in family.schedulers.values()}
    return own.get("_class_name") in known and not own.get("stochastic_sampling")
