"""What the painters' losses look at: windows round what is hidden, the critics and the frozen networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from device_examples import Examples
from equations.gan import VGGFeatures
from equations.pictures import AlexFeatures
from feature_critics import KINDS
from hidden_masks import windows
from losses import LossConfig, Step, hinge_critic, patch_weights, weighted_sum
from network_files import load_frozen
from pack_data import ALEX, MOBILEFACENET, VGG16, VGG_LAYERS
from prior_stage import Painted
from torch import nn

from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.teachers import load_mobilefacenet
from idinpaint.models.tensors import constant

COLUMNS = ((0, 1), (2,), (3,), (4,), (5,))  # of COMPONENTS, by KINDS: both eyes share a critic, the right one mirrored
RIGHT_EYE, FACE = 1, "face"
WIDER = {"eyes": 1.8, "mouth": 1.2, FACE: 2.5}  # times the window of an eye, shown at the same number of pixels


@dataclass
class Look:
    """N windows a copy, kind after kind. fake: [copies * N, 3, S, S], copy by copy; real [N, 3, S, S], mask
    [N, 1, S, S] and what VGG16 sees in both; weights: 1 where the feature is hidden, by window [N]; kinds: the place of
    each kind's windows."""

    fake: torch.Tensor
    real: torch.Tensor
    mask: torch.Tensor
    weights: torch.Tensor
    kinds: dict[str, slice]
    fake_vgg: list[torch.Tensor]
    real_vgg: list[torch.Tensor]

    def of(self, kind: str, values: torch.Tensor) -> torch.Tensor:
        """The rows of one kind, of a tensor of [N, ...] or [copies * N, ...]."""
        return self._rows(self.kinds[kind], values)

    def components(self, values: torch.Tensor) -> torch.Tensor:
        """The same of all kinds before the whole face."""
        return self._rows(slice(self.kinds[FACE].start), values)

    def _rows(self, chosen: slice, values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(0, (-1, len(self.weights)))[:, chosen].flatten(0, 1)


class PainterLoss:
    """Holds the frozen networks; `critic` and `painter` give the two losses of a step."""

    def __init__(self, config: LossConfig, critics: nn.Module, device: torch.device) -> None:
        self.config, self.critics, self.device = config, critics, device
        teachers = Path(config.teachers)
        self.alex = AlexFeatures(teachers / ALEX).to(device)
        self.vgg = VGGFeatures(teachers / VGG16, VGG_LAYERS).to(device)
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device)
        for frozen in (self.alex, self.vgg, self.landmarker):  # autocast would turn their weights anew at every call
            if config.mixed_precision == "bf16":
                frozen.to(torch.bfloat16)
        self.encoders = []  # two, since a painter finds what pleases one encoder and nobody else
        if config.identity_weight:
            own = load_frozen(IdentityNet(), config.identity, device)
            self.encoders = [own, load_mobilefacenet(teachers / MOBILEFACENET).to(device)]

    def _places(self, examples: Examples) -> tuple[dict[str, slice], torch.Tensor, torch.Tensor, torch.Tensor]:
        """(each kind's slice, rows of the batch, columns of COMPONENTS or -1 for the rest, weights): as many windows as
        the shares say, of hidden features at random; where there are too few, others that count 0."""
        b, kinds, rows, columns, weights = len(examples.image), {}, [], [], []
        for kind, members, share in zip(KINDS, (*COLUMNS, (-1,)), self.config.window_shares, strict=True):
            n, m = max(1, min(round(share * b), b * len(members))), len(members)
            hidden = examples.hidden[:, members[0] : members[-1] + 1]
            if kind == KINDS[-1]:
                hidden = torch.ones_like(examples.hidden[:, :1])
            chosen = (hidden + 0.5 * torch.rand_like(hidden)).flatten().topk(n).indices
            start = sum(map(len, rows))
            kinds[kind] = slice(start, start + n)
            rows.append(chosen // m)
            columns.append(constant(members, self.device, torch.long)[chosen % m])
            weights.append(hidden.flatten()[chosen])
        return kinds, torch.cat(rows), torch.cat(columns), torch.cat(weights)

    def look(self, examples: Examples, inpainted: torch.Tensor, copies: int) -> Look:
        """The windows of a step. inpainted: [copies * B, 3, 256, 256], copy by copy."""
        side, b = self.config.component_window, len(examples.image)
        kinds, rows, columns, weights = self._places(examples)
        rest = (columns < 0)[:, None]
        centres = torch.where(rest, examples.place[rows], examples.centres[rows, columns.clamp(min=0)])
        sizes = torch.full_like(weights, float(side))
        for kind, times in WIDER.items():
            sizes[kinds[kind]] *= times
        flip = (columns == RIGHT_EYE).view(-1, 1, 1, 1)

        def cut(picture: torch.Tensor, times: int) -> torch.Tensor:
            chosen = picture.unflatten(0, (times, b)).index_select(1, rows).flatten(0, 1)
            part = windows(chosen, centres.repeat(times, 1), sizes.repeat(times), side)
            return torch.where(flip.repeat(times, 1, 1, 1), part.flip(-1), part)

        fake, real, mask = cut(inpainted, copies), cut(examples.image, 1), cut(examples.mask, 1)
        with torch.autocast(self.device.type, torch.bfloat16, self.config.mixed_precision == "bf16"):
            with torch.no_grad():
                real_vgg = self.vgg(real)
            return Look(fake, real, mask, weights, kinds, self.vgg(fake), real_vgg)

    def critic(self, look: Look) -> torch.Tensor:
        """The critics' hinge loss over the hidden patches, a mean over the heads; the painter's graph is left alone."""
        terms = []
        for kind in KINDS:
            real, fake = look.of(kind, look.real), look.of(kind, look.fake.detach())
            layers = zip(look.real_vgg, look.fake_vgg, strict=True)
            seen = [torch.cat([look.of(kind, r), look.of(kind, f.detach())]) for r, f in layers]
            scores, _ = self.critics.nets[kind](torch.cat([real, fake]), seen)
            mask, weights, n = look.of(kind, look.mask), look.of(kind, look.weights), len(real)
            for score in scores:
                places = patch_weights(mask, weights, score[:n].shape)
                again = places.repeat(len(fake) // n, 1, 1, 1)
                terms.append(hinge_critic(score[:n], score[n:], places, again) / len(scores))
        return torch.stack(terms).sum()

    def painter(
        self, examples: Examples, painted: Painted, inpainted: torch.Tensor, look: Look, warm: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The painter's loss and its terms by name, as losses.py has them. warm: share in [0, 1] of the warmed ones."""
        return weighted_sum(Step(self, examples, painted, inpainted, look), warm)
