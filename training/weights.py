"""The adapter's float32 weights with their optimiser, and the copies in the model's own type that it computes with.

Mixed precision with master weights (Micikevicius et al. 2018, section 3.1): LoRA's many small products in float32 would
cost a fifth of the speed.
"""

from typing import Any

import torch

from training.recipe import Recipe


class Weights:
    """What is trained."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        """Take the adapter's parameters from a model made by `load_model`."""
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._names = [name for name, _ in trained]
        self._copies = [parameter for _, parameter in trained]
        self._masters = [parameter.detach().float().clone() for parameter in self._copies]
        for parameter in self._copies:
            parameter.data = parameter.data.to(model.get_base_model().dtype)
        self._max_norm = recipe.max_grad_norm
        self.optimizer = torch.optim.AdamW(
            self._masters, lr=recipe.learning_rate, betas=(0.9, 0.999), weight_decay=recipe.weight_decay
        )

    def step(self, learning_rate: float) -> float:
        """Take one step along the gradients that stand in the copies; return their norm before clipping."""
        for master, parameter in zip(self._masters, self._copies, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = float(torch.nn.utils.clip_grad_norm_(self._masters, self._max_norm))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self._copy()
        return norm

    def named(self) -> dict[str, torch.Tensor]:
        """The float32 weights by parameter name; they go on changing."""
        return dict(zip(self._names, self._masters, strict=True))

    def snapshot(self) -> dict[str, torch.Tensor]:
        """The float32 weights by parameter name, as they are now."""
        return {name: weight.clone() for name, weight in self.named().items()}

    def load(self, named: dict[str, torch.Tensor]) -> None:
        """Put other weights in their place; the optimiser keeps its state."""
        for name, master in zip(self._names, self._masters, strict=True):
            master.copy_(named[name])
        self._copy()

    def _copy(self) -> None:
        for master, parameter in zip(self._masters, self._copies, strict=True):
            parameter.data.copy_(master)
