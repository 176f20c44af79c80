"""The painters' loss: the whole picture, windows round what is hidden, critics, landmarks and identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from device_examples import ExampleConfig, Examples
from feature_critics import KINDS
from hidden_masks import windows
from identity_terms import heatmap_term, identity_gap
from network_files import load_frozen
from pack_data import ALEX, MOBILEFACENET, VGG16, VGG_LAYERS
from painter_stages import Painted, repeated
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
from idinpaint.losses.pictures import AlexFeatures
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.teachers import load_mobilefacenet
from idinpaint.models.tensors import constant

COLUMNS = ((0, 1), (2,), (3,), (4,), (5,))  # of COMPONENTS, by KINDS: both eyes share a critic, the right one mirrored
WARMED = {"gradient", "adversarial", "matching", "variety"}  # terms that grow as the critics learn
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


@dataclass
class LossConfig(ExampleConfig):
    """Weights of the terms."""

    l1_weight: float = 0.8
    known_weight: float = 0.1  # L1 over known pixels
    picture_weight: float = 0.3  # AlexNet distance of the whole picture
    window_weight: float = 0.25  # AlexNet distance of windows
    vgg_weight: float = 0.1
    adversarial_weight: float = 0.25
    matching_weight: float = 5.0  # with 1 and a stronger critic it scribbles
    gradient_weight: float = 0.05  # as much detail in the windows as the photo has
    window_shares: tuple[float, ...] = (0.4, 0.15, 0.25, 0.25, 0.2, 0.3)  # windows a sample of the batch, by KINDS
    face_share: float = 0.3  # of the adversarial terms for the window of the whole face; those of components have 1
    rest_share: float = 0.5  # for that of other hidden places
    identity_weight: float = 0.2
    heatmap_weight: float = 0.05
    face_samples: int = 16  # of a batch for the two above
    picture_samples: int = 32  # of a batch for the distance of the whole picture
    variety_weight: float = 0.5
    variety_floor: float = 0.3  # AlexNet distance of two candidates in a hidden component's window
    mixed_precision: str = "bf16"
    teachers: str = "runs/teachers"  # written by training/pack_data.py


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
        """The painter's loss and its terms by name. warm: share of the adversarial weight, 0 to 1."""
        config, copies = self.config, painted.copies

        def again(x: torch.Tensor) -> torch.Tensor:
            return repeated(x, copies)

        image, mask, weights = again(examples.image), again(examples.mask), look.weights
        known = ((painted.pictures - image).abs() * (1 - mask)).mean()
        l1 = best_of(per_sample_l1(painted.pictures, image, mask), copies).mean()
        features = self.alex(look.fake)
        with torch.no_grad():
            goal = self.alex(look.real)

        def windowed(values: torch.Tensor) -> torch.Tensor:
            return weighted_mean(best_of(values, copies), weights)

        terms = {
            "l1": l1,
            "known": known,
            "picture": self._picture(examples.image, inpainted, copies),
            "window": windowed(unit_distance(features, [again(g) for g in goal])),
            "vgg": windowed(feature_distance(look.fake_vgg, [again(g) for g in look.real_vgg])),
            "gradient": weighted_mean(gradient_gap(look.fake, again(look.real), again(look.mask)), again(weights)),
        }
        terms["adversarial"], terms["matching"] = self._adversarial(look, copies)
        if copies > 1:
            shown = [look.components(f) for f in features]
            terms["variety"] = variety(shown, copies, config.variety_floor, look.components(weights))
        terms |= self._face(inpainted[: min(config.face_samples, len(examples.image))], examples)
        scales = {name: getattr(config, f"{name}_weight") for name in terms}
        for name in WARMED & set(scales):
            scales[name] *= warm
        if painted.extra is not None:
            terms["velocity"], scales["velocity"] = painted.extra, 1.0
        loss = sum(scales[name] * term for name, term in terms.items())
        return loss, {name: term.detach() for name, term in terms.items()}

    def _picture(self, image: torch.Tensor, inpainted: torch.Tensor, copies: int) -> torch.Tensor:
        """AlexNet distance of the first whole pictures."""
        n = min(self.config.picture_samples, len(image))
        with torch.no_grad():
            goal = self.alex(image[:n])
        shown = inpainted.unflatten(0, (copies, -1))[:, :n].flatten(0, 1)
        distance = unit_distance(self.alex(shown), [g.repeat(copies, 1, 1, 1) for g in goal])
        return best_of(distance, copies).mean()

    def _adversarial(self, look: Look, copies: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the critics say of the fakes, and how far apart the features are that they see, a mean over windows."""
        totals = torch.stack([look.of(kind, look.weights).sum() for kind in KINDS]).clamp(min=1e-3)
        shares = totals / totals[:-2].sum()
        shares[-2], shares[-1] = self.config.face_share, self.config.rest_share
        adversarial, match = [], []
        for share, kind in zip(shares, KINDS, strict=True):
            net, weights = self.critics.nets[kind], look.of(kind, look.weights).repeat(copies)
            mask = look.of(kind, look.mask).repeat(copies, 1, 1, 1)
            scores, features = net(look.of(kind, look.fake), [look.of(kind, f) for f in look.fake_vgg])
            with torch.no_grad():
                goal = net(look.of(kind, look.real), [look.of(kind, r) for r in look.real_vgg])[1]
            heads = [hinge_painter(s, patch_weights(mask, weights, s.shape)) for s in scores]
            adversarial.append(share * torch.stack(heads).mean())
            match.append(share * matching([g.repeat(copies, 1, 1, 1) for g in goal], features, weights))
        return torch.stack(adversarial).sum(), torch.stack(match).sum()

    def _face(self, inpainted: torch.Tensor, examples: Examples) -> dict[str, torch.Tensor]:
        """Landmark maps and identity of the first pictures against the photo's."""
        image, points = examples.image[: len(inpainted)], examples.points[: len(inpainted)]
        terms = {"heatmap": heatmap_term(self.landmarker, inpainted, image), "identity": image.new_zeros(())}
        if self.encoders:
            faces = arcface_faces(inpainted, points), arcface_faces(image, points)
            terms["identity"] = identity_gap(self.encoders, *faces)
        return terms
