"""What every stage of train_painters.py is, and the first one: the prior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from device_examples import Examples
from network_files import Folders, load_some, load_state, part_of
from torch import nn

from idinpaint.models.pconv import PConvPrior
from idinpaint.models.references import ReferenceEncoder

REFERENCE_WIDTHS = (24, 48, 96, 128, 128)
ID_DIM = 128


@dataclass
class Painted:
    """pictures: [copies * B, 3, 256, 256] float32, copy by copy; extra: a loss of the stage's own, and its terms."""

    pictures: torch.Tensor
    copies: int = 1
    extra: torch.Tensor | None = None


class Stage(nn.Module):
    """Parameters by the rate that they learn at; those of neither list take the plain one."""

    def fast(self) -> list[nn.Parameter]:
        """Those that start from nothing and take a higher rate."""
        return []

    def slow(self) -> list[nn.Parameter]:
        """Those that take a lower rate."""
        return []


class PriorStage(Stage):
    """The stage-one prior and the encoder of reference pictures, trained together."""

    name = "prior"

    def __init__(self, folders: Folders) -> None:
        super().__init__()
        state = load_state(folders, "prior")
        self.prior = PConvPrior(blocks=2, rank_share=0.5, id_dim=ID_DIM, reference_widths=REFERENCE_WIDTHS)
        self.reference_encoder = ReferenceEncoder(REFERENCE_WIDTHS)
        if any(key.startswith("prior.") for key in state):
            load_some(self.prior, part_of(state, "prior"), ())
            load_some(self.reference_encoder, part_of(state, "reference_encoder"), ())
        else:
            load_some(self.prior, state, ("identity", "down_references", "up_references"))
        self.reference_encoder.to_input.requires_grad_(False)  # the diffusion's
        self.reference_encoder.to_blocks.requires_grad_(False)

    def train(self, mode: bool = True) -> PriorStage:
        """As nn.Module's; batch norms stay as they are: the statistics of holes differ from batch to batch."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def fast(self) -> list[nn.Parameter]:
        """As Stage's: the identity's and the references' layers."""
        new = [*self.prior.identity.parameters(), *self.prior.down_references.parameters()]
        return [*new, *self.prior.up_references.parameters(), *self.reference_encoder.stages.parameters()]

    def files(self) -> dict[str, dict[str, torch.Tensor]]:
        """What is written at the end, by file name."""
        return {"prior": self.state_dict()}

    def fill(self, examples: Examples) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The prior's picture and features."""
        levels = self.reference_encoder(examples.references)
        return self.prior.fill(examples.masked_image, examples.mask, examples.id_embed, levels)

    def forward(self, examples: Examples, training: bool = True) -> Painted:
        """One picture a sample."""
        return Painted(self.fill(examples)[0].float())


class OverPrior(Stage):
    """A stage over the prior, which is frozen and not saved with it unless the stage says otherwise."""

    def __init__(self, folders: Folders) -> None:
        super().__init__()
        self.base = [PriorStage(folders).eval().requires_grad_(False)]  # in a list: no sub-module

    def to(self, *args, **kwargs) -> OverPrior:
        """Moves the frozen prior too."""
        self.base[0].to(*args, **kwargs)
        return super().to(*args, **kwargs)
