"""The painters' loss: the whole picture, windows round what is hidden, critics, landmarks and identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from device_examples import ExampleConfig, Examples
from hidden_masks import windows
from identity_terms import load_frozen, luma
from pack_data import ALEX, MOBILEFACENET, VGG16, VGG_LAYERS
from painter_stages import Painted
from picture_changes import arcface_faces
from torch import nn
from window_losses import (
    best_of,
    feature_distance,
    gradient_gap,
    hinge_critic,
    hinge_painter,
    matching,
    patch_weights,
    per_sample_l1,
    unit_distance,
    variety,
    weighted_mean,
)

from idinpaint.losses.gan import VGGFeatures
from idinpaint.losses.pictures import AlexFeatures, identity_loss, relative_heatmap_loss
from idinpaint.models.critics import KINDS
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.teachers import load_mobilefacenet
from idinpaint.models.tensors import constant

KIND_OF = (0, 0, 1, 2, 3)  # place in KINDS of each of COMPONENTS: both eyes share a critic, the right one mirrored
Look = dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # kind -> fake, real, mask windows


@dataclass
class LossConfig(ExampleConfig):
    """Weights of the terms."""

    l1_weight: float = 1.5
    known_weight: float = 0.1  # L1 over known pixels
    picture_weight: float = 0.3  # AlexNet distance of the whole picture
    window_weight: float = 0.15  # AlexNet distance of windows
    vgg_weight: float = 0.1
    adversarial_weight: float = 0.15
    matching_weight: float = 1.5
    gradient_weight: float = 0.0  # as much detail in the windows as the photo has
    rim_share: float = 0.5  # of the adversarial terms for the rim's window
    identity_weight: float = 0.2
    heatmap_weight: float = 0.05
    face_samples: int = 16  # of a batch for the two above
    variety_weight: float = 0.5
    variety_floor: float = 0.3  # AlexNet distance of two candidates in a hidden component's window
    mixed_precision: str = "bf16"
    teachers: str = "runs/teachers"  # written by training/pack_data.py
    vgg_layers: tuple[int, ...] = VGG_LAYERS


class PainterLoss:
    """Holds the frozen networks; `critic` and `painter` give the two losses of a step."""

    def __init__(self, config: LossConfig, critics: nn.Module, device: torch.device) -> None:
        self.config, self.critics, self.device = config, critics, device
        teachers = Path(config.teachers)
        self.alex = AlexFeatures(teachers / ALEX).to(device)
        self.vgg = VGGFeatures(teachers / VGG16, config.vgg_layers).to(device) if config.vgg_weight else None
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device)
        for frozen in (self.alex, self.vgg, self.landmarker):  # autocast would turn their weights anew at every call
            if frozen is not None and config.mixed_precision == "bf16":
                frozen.to(torch.bfloat16)
        self.encoders = []  # two, since a painter finds what pleases one encoder and nobody else
        if config.identity_weight:
            own = load_frozen(IdentityNet(), config.identity, device)
            self.encoders = [own, load_mobilefacenet(teachers / MOBILEFACENET).to(device)]

    def look(self, examples: Examples, inpainted: torch.Tensor, copies: int) -> tuple[Look, torch.Tensor]:
        """Windows by critic, and how much each sample counts [4, copies * B] for eye, eyes, nose, mouth."""
        out = self.config.component_window
        flip = (examples.component == 1).view(-1, 1, 1, 1)  # the right eye, mirrored

        def again(x: torch.Tensor) -> torch.Tensor:
            return x.repeat(copies, *[1] * (x.ndim - 1))

        def cut(picture: torch.Tensor, times: int) -> torch.Tensor:
            part = windows(picture, examples.centres.repeat(times, 1), examples.sizes.repeat(times), out)
            return torch.where(flip.repeat(times, 1, 1, 1), part.flip(-1), part)

        fake, real, mask = cut(inpainted, copies), cut(examples.image, 1), cut(examples.mask, 1)
        shared = (fake, again(real), again(mask))
        rim = examples.rim
        edge = [windows(x, rim.repeat(t, 1), out, out) for x, t in ((inpainted, copies), (examples.image, 1))]
        edge_mask = windows(examples.mask, rim, out, out)
        look: Look = {kind: shared for kind in KINDS[:-1]}
        look["rim"] = (edge[0], again(edge[1]), again(edge_mask))
        kinds = constant(KIND_OF, self.device, torch.long)[examples.component]
        counts = torch.stack([(kinds == k).float() * examples.hidden for k in range(4)]).repeat(1, copies)
        return look, torch.cat([counts, torch.ones_like(counts[:1])])

    def critic(self, look: Look, counts: torch.Tensor) -> torch.Tensor:
        """The critics' hinge loss, mean over the kinds; the painter's pictures are detached."""
        half = counts.shape[1]
        scores = self.critics({kind: torch.cat([real, fake.detach()]) for kind, (fake, real, _) in look.items()})
        terms = []
        for row, kind in enumerate(KINDS):
            score = scores[kind][0]
            weights = patch_weights(look[kind][2], counts[row], score.shape)
            terms.append(hinge_critic(score[:half], score[half:], weights))
        return torch.stack(terms).sum()

    def painter(
        self,
        examples: Examples,
        painted: Painted,
        inpainted: torch.Tensor,
        look: Look,
        counts: torch.Tensor,
        warm: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The painter's loss and its terms by name. warm: share of the adversarial weight, 0 to 1."""
        config, copies = self.config, painted.copies

        def again(x: torch.Tensor) -> torch.Tensor:
            return x.repeat(copies, *[1] * (x.ndim - 1))

        image, mask = again(examples.image), again(examples.mask)
        fake, real, _ = look["eye"]
        rim_fake, rim_real, _ = look["rim"]
        l1 = per_sample_l1(painted.pictures, image, mask)
        known = ((painted.pictures - image).abs() * (1 - mask)).mean()
        with torch.no_grad():
            goal = self.alex(examples.image)
            window_goal = self.alex(torch.cat([real, rim_real]))
        picture = unit_distance(self.alex(inpainted), [g.repeat(copies, 1, 1, 1) for g in goal])
        features = self.alex(torch.cat([fake, rim_fake]))
        window = unit_distance(features, window_goal)
        n = len(fake)

        def recon(values: torch.Tensor) -> torch.Tensor:
            return best_of(values, copies).mean()

        def windowed(values: torch.Tensor) -> torch.Tensor:
            comp = weighted_mean(best_of(values[:n], copies), examples.hidden)
            return comp + 0.5 * recon(values[n:])

        terms = {"l1": recon(l1), "known": known, "picture": recon(picture), "window": windowed(window)}
        weights = {"l1": config.l1_weight, "known": config.known_weight}
        weights |= {"picture": config.picture_weight, "window": config.window_weight}
        if self.vgg is not None:
            with torch.no_grad():
                vgg_goal = self.vgg(torch.cat([real, rim_real]))
            terms["vgg"] = windowed(feature_distance(self.vgg(torch.cat([fake, rim_fake])), vgg_goal))
            weights["vgg"] = config.vgg_weight
        if config.gradient_weight:
            gaps = [gradient_gap(*look[kind]) for kind in ("eye", "rim")]
            hidden = again(examples.hidden)
            terms["gradient"] = weighted_mean(gaps[0], hidden) + 0.5 * gaps[1].mean()
            weights["gradient"] = warm * config.gradient_weight
        adversarial, match = self._adversarial(look, counts)
        terms |= {"adversarial": adversarial, "matching": match}
        weights |= {"adversarial": warm * config.adversarial_weight, "matching": warm * config.matching_weight}
        if copies > 1 and config.variety_weight:
            terms["variety"] = variety([f[:n] for f in features], copies, config.variety_floor, examples.hidden)
            weights["variety"] = warm * config.variety_weight
        terms |= self._face(inpainted[: min(config.face_samples, len(examples.image))], examples)
        weights |= {"identity": config.identity_weight, "heatmap": config.heatmap_weight}
        if painted.extra is not None:
            terms["velocity"], weights["velocity"] = painted.extra, 1.0
        loss = sum(weights[name] * term for name, term in terms.items())
        return loss, {name: term.detach() for name, term in terms.items()}

    def _adversarial(self, look: Look, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = self.critics({kind: torch.cat([fake, real]) for kind, (fake, real, _) in look.items()})
        half = counts.shape[1]
        total = counts.sum(1).clamp(min=1e-3)
        shares = total / total[:-1].sum()
        shares[-1] = self.config.rim_share
        adversarial, match = [], []
        for row, kind in enumerate(KINDS):
            score, features = both[kind][0][:half], [f[:half] for f in both[kind][1]]
            weights = patch_weights(look[kind][2], counts[row], score.shape)
            adversarial.append(shares[row] * hinge_painter(score, weights))
            match.append(shares[row] * matching([f[half:] for f in both[kind][1]], features, counts[row]))
        return torch.stack(adversarial).sum(), torch.stack(match).sum()

    def _face(self, inpainted: torch.Tensor, examples: Examples) -> dict[str, torch.Tensor]:
        """Landmark maps and identity of the first pictures against the photo's."""
        image, points = examples.image[: len(inpainted)], examples.points[: len(inpainted)]
        nothing = torch.zeros_like(image[:, :1])
        with torch.no_grad():
            goal = self.landmarker(image, nothing)
        terms = {"heatmap": relative_heatmap_loss(self.landmarker(inpainted, nothing), goal)}
        identity = []
        for encoder in self.encoders:
            with torch.no_grad():
                target = encoder(luma(arcface_faces(image, points))).float()
            identity.append(identity_loss(encoder(luma(arcface_faces(inpainted, points))).float(), target))
        terms["identity"] = torch.stack(identity).mean() if identity else nothing.sum()
        return terms
