"""The optimizer of both trainings: Muon for hidden matrices and kernels, AdamW for the rest.

Takes a module; returns one object with `step`, `set_lr_scale` and a state dict. Does not know what
is trained. Muon (Jordan et al. 2024) makes the momentum of each matrix orthogonal before the step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def orthogonalize(momentum: Tensor, num_steps: int = 5) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix (Newton-Schulz).

    Takes one matrix [row, column] or a stack of one shape [matrix, row, column].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    add_product = torch.addmm if momentum.ndim == 2 else torch.baddbmm
    x = momentum.bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT.contiguous() if is_tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(num_steps):
        gram = x @ x.mT
        gram = add_product(gram, gram, gram, beta=b, alpha=c)
        x = add_product(x, gram, x, beta=a)
    return x.mT if is_tall else x


def stacks_of(grads: list[Tensor]) -> list[list[int]]:
    """Which gradients to orthogonalize together, as indices.

    One matrix after the other on a CPU, where that is faster than batched products; all of one
    shape on a GPU, where launching a thousand small products takes longer than a training step.
    """
    if not grads or not grads[0].is_cuda:
        return [[index] for index in range(len(grads))]
    indices_from_shape: dict[tuple[int, int], list[int]] = {}
    for index, grad in enumerate(grads):
        indices_from_shape.setdefault((len(grad), grad[0].numel()), []).append(index)
    return list(indices_from_shape.values())


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized; convolution kernels count as [out, the rest]."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            grads: list[Tensor] = [param.grad for param in params]
            buffers = [
                self.state[param].setdefault("momentum", torch.zeros_like(param))
                for param in params
            ]
            torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
            torch._foreach_lerp_(grads, buffers, group["momentum"])  # Nesterov
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for indices in stacks_of(grads):
                if len(indices) == 1:
                    updates = orthogonalize(grads[indices[0]].flatten(1))[None]
                else:
                    updates = orthogonalize(torch.stack([grads[i].flatten(1) for i in indices]))
                rows, columns = updates.shape[1:]
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for index, update in zip(indices, updates, strict=True):
                    params[index].add_(update.reshape(params[index].shape), alpha=-scale)


class TwoOptimizers:
    """Muon and AdamW behind one face."""

    def __init__(
        self,
        module: nn.Module,
        not_hidden: tuple[str, ...],
        muon_lr: float = 0.02,
        adam_lr: float = 2e-3,
        weight_decay: float = 0.0,
    ) -> None:
        hidden: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, param in module.named_parameters():
            if param.requires_grad:
                is_rest = param.ndim < 2 or any(part in name for part in not_hidden)
                (rest if is_rest else hidden).append(param)
        self.muon = Muon(hidden, lr=muon_lr, weight_decay=weight_decay)
        self.adam = torch.optim.AdamW(
            rest, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        self._base_lrs = (muon_lr, adam_lr)

    def step(self) -> None:
        """Update all parameters and clear their gradients."""
        self.muon.step()
        self.adam.step()
        self.muon.zero_grad()
        self.adam.zero_grad()

    def set_lr_scale(self, scale: float) -> None:
        """Set both learning rates to `scale` times their base."""
        for optimizer, lr in zip((self.muon, self.adam), self._base_lrs, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * scale

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take both states back."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


class Average:
    """Exponential moving average of a module's parameters: the weights that are shipped."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.num_updates = 0
        self.shadow = {name: param.detach().clone() for name, param in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's parameters; faster at the beginning."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        names, params = zip(*module.named_parameters(), strict=True)
        shadows = [self.shadow[name] for name in names]
        torch._foreach_lerp_(shadows, [param.detach() for param in params], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights."""
        return {"shadow": self.shadow, "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the averaged weights back."""
        self.shadow, self.num_updates = state["shadow"], state["num_updates"]


def lr_scale(step: int, num_steps: int, num_warmup: int = 100, decay_share: float = 0.3) -> float:
    """Warm up, hold, and fall linearly to zero over the last `decay_share` of the steps."""
    rise = min(1.0, (step + 1) / num_warmup)
    fall = min(1.0, (num_steps - step) / max(1.0, decay_share * num_steps))
    return max(0.0, min(rise, fall))
