"""What modules on top of a frozen language model share: which weights are trained, and that those alone are saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor, nn

from speechprompt.lm.base import UnitLM
from speechprompt.lm.gslm import GSLM
from speechprompt.lm.rounded import rounded
from units.errors import InputError

_LM = "lm."  # name under which the frozen weights stand in the module's own state dict
Module = TypeVar("Module", bound="Steered")


class Steered(nn.Module):
    """A language model `lm` of which nothing is trained, unless some of its weights require gradients.

    Attributes:
        lm: the language model; it stays in evaluation mode while nothing of it is trained.
    """

    lm: nn.Module

    def train(self: Module, mode: bool = True) -> Module:
        """Training or evaluation mode; a language model of which nothing is trained stays in evaluation mode."""
        nn.Module.train(self, mode)
        self.lm.train(mode and any(parameter.requires_grad for parameter in self.lm.parameters()))
        return self

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All weights but the language model's, and those of the language model that require gradients."""
        return [p for name, p in self.named_parameters() if p.requires_grad or not name.startswith(_LM)]

    @property
    def n_trainable(self) -> int:
        """Number of weights that are trained."""
        return sum(parameter.numel() for parameter in self.trainable_parameters())

    @property
    def n_frozen(self) -> int:
        """Number of weights of the language model that are not trained, tied ones once."""
        return sum(parameter.numel() for parameter in self.lm.parameters() if not parameter.requires_grad)

    def trainable_state(self) -> dict[str, Tensor]:
        """All but the frozen weights, buffers (a verbalizer's token ids, say) included; detached copies."""
        return {name: tensor.clone() for name, tensor in self.trained_tensors().items()}

    def trained_tensors(self) -> dict[str, Tensor]:
        """What `trainable_state` copies, as it is: detached, not copied."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {
            name: tensor.detach()
            for name, tensor in self.state_dict().items()
            if name in trained or not name.startswith(_LM)
        }

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Read what `trainable_state` gave. Raises: InputError for other names or shapes."""
        expected = {name: tensor.shape for name, tensor in self.trained_tensors().items()}
        got = {name: tensor.shape for name, tensor in state.items()}
        if got != expected:
            wrong = sorted(n for n in expected.keys() | got.keys() if expected.get(n) != got.get(n))
            raise InputError(
                f"prompt: expected tensors that fit this language model and task, got others for {', '.join(wrong)}; "
                "use the stack and labels the prompt was trained with"
            )
        self.load_state_dict(dict(state), strict=False)


def rounded_lm(module: nn.Module, fingerprint: str) -> UnitLM | None:
    """A rounded copy of the language model that a module steers; None where none of it may be rounded.

    That is: where some of its weights train, or its family cannot be rounded. fingerprint: the language model's.
    """
    lm = module.lm if isinstance(module, Steered) else None
    if not isinstance(lm, GSLM) or any(p.requires_grad for p in lm.parameters()):
        return None
    return rounded(lm, fingerprint=fingerprint)


@contextmanager
def steering(module: nn.Module, lm: UnitLM | None) -> Iterator[None]:
    """Let a module steer another copy of its language model for a while; None: its own."""
    if lm is None:
        yield
        return
    own = module.lm
    try:
        module.lm = lm
        yield
    finally:
        module.lm = own
