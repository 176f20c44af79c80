"""The painters' training losses: a row of TERMS each, its weight in LossConfig; a new one is a function and both lines.

Below lie what the terms are made of, as pure functions; images [B, 3, H, W] in [-1, 1], weights [B] or by patch. All
means are weighted means over the samples that have such a window: without one a term is zero. The critics' own loss and
the windows are painter_steps.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from device_examples import ExampleConfig, Examples
from feature_critics import KINDS
from identity_faces import heatmap_term, identity_gap
from picture_changes import arcface_faces


@dataclass
class LossConfig(ExampleConfig):
    """Weights of the terms: NAME_weight of the row NAME."""

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


class Step:
    """What a term may look at. nets: the PainterLoss with its frozen networks, critics and config; painted: the stage's
    output (Painted); inpainted: the same with known pixels put back [copies * B, 3, 256, 256]; look: the windows."""

    def __init__(self, nets: Any, examples: Examples, painted: Any, inpainted: torch.Tensor, look: Any) -> None:
        self.nets, self.config, self.examples, self.look = nets, nets.config, examples, look
        self.painted, self.inpainted, self.copies = painted, inpainted, painted.copies
        self.image, self.mask = self.again(examples.image), self.again(examples.mask)
        self.features = nets.alex(look.fake)
        with torch.no_grad():
            self.goal = nets.alex(look.real)
        self.faces = inpainted[: min(self.config.face_samples, len(examples.image))]

    def again(self, x: torch.Tensor) -> torch.Tensor:
        """As often as there are candidates."""
        return repeated(x, self.copies)

    def windowed(self, values: torch.Tensor) -> torch.Tensor:
        """Mean over the windows of the better candidate's number."""
        return weighted_mean(best_of(values, self.copies), self.look.weights)

    @cached_property
    def critics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the critics say of the fakes, and how far apart the features are that they see, a mean over windows."""
        look, copies = self.look, self.copies
        totals = torch.stack([look.of(kind, look.weights).sum() for kind in KINDS]).clamp(min=1e-3)
        shares = totals / totals[:-2].sum()
        shares[-2], shares[-1] = self.config.face_share, self.config.rest_share
        adversarial, match = [], []
        for share, kind in zip(shares, KINDS, strict=True):
            net, weights = self.nets.critics.nets[kind], look.of(kind, look.weights).repeat(copies)
            mask = look.of(kind, look.mask).repeat(copies, 1, 1, 1)
            scores, features = net(look.of(kind, look.fake), [look.of(kind, f) for f in look.fake_vgg])
            with torch.no_grad():
                goal = net(look.of(kind, look.real), [look.of(kind, r) for r in look.real_vgg])[1]
            heads = [hinge_painter(s, patch_weights(mask, weights, s.shape)) for s in scores]
            adversarial.append(share * torch.stack(heads).mean())
            match.append(share * matching([g.repeat(copies, 1, 1, 1) for g in goal], features, weights))
        return torch.stack(adversarial).sum(), torch.stack(match).sum()


def l1(step: Step) -> torch.Tensor:
    """Over the hole."""
    return best_of(per_sample_l1(step.painted.pictures, step.image, step.mask), step.copies).mean()


def known(step: Step) -> torch.Tensor:
    """L1 over the known pixels."""
    return ((step.painted.pictures - step.image).abs() * (1 - step.mask)).mean()


def picture(step: Step) -> torch.Tensor:
    """AlexNet distance of the first whole pictures."""
    n = min(step.config.picture_samples, len(step.examples.image))
    with torch.no_grad():
        goal = step.nets.alex(step.examples.image[:n])
    shown = step.inpainted.unflatten(0, (step.copies, -1))[:, :n].flatten(0, 1)
    distance = unit_distance(step.nets.alex(shown), [g.repeat(step.copies, 1, 1, 1) for g in goal])
    return best_of(distance, step.copies).mean()


def window(step: Step) -> torch.Tensor:
    """AlexNet distance of the windows."""
    return step.windowed(unit_distance(step.features, [step.again(g) for g in step.goal]))


def vgg(step: Step) -> torch.Tensor:
    """VGG16 distance of the windows."""
    return step.windowed(feature_distance(step.look.fake_vgg, [step.again(g) for g in step.look.real_vgg]))


def gradient(step: Step) -> torch.Tensor:
    """As much detail in the windows as there was."""
    look = step.look
    return weighted_mean(
        gradient_gap(look.fake, step.again(look.real), step.again(look.mask)), step.again(look.weights)
    )


def variety_of_two(step: Step) -> torch.Tensor | None:
    """Of the candidates' hidden components; nothing with one candidate."""
    if step.copies == 1:
        return None
    shown = [step.look.components(f) for f in step.features]
    return variety(shown, step.copies, step.config.variety_floor, step.look.components(step.look.weights))


def heatmap(step: Step) -> torch.Tensor:
    """Landmark maps of the first pictures against the photos'."""
    return heatmap_term(step.nets.landmarker, step.faces, step.examples.image[: len(step.faces)])


def identity(step: Step) -> torch.Tensor:
    """Identity of the first pictures against the photos'; 0 without encoders."""
    image, points = (x[: len(step.faces)] for x in (step.examples.image, step.examples.points))
    if not step.nets.encoders:
        return image.new_zeros(())
    return identity_gap(step.nets.encoders, arcface_faces(step.faces, points), arcface_faces(image, points))


@dataclass(frozen=True)
class Term:
    """of: gives the term, None where the step has none; warmed: its weight grows as the critics learn."""

    of: Callable[[Step], torch.Tensor | None]
    warmed: bool = False


TERMS = {
    "l1": Term(l1),
    "known": Term(known),
    "picture": Term(picture),
    "window": Term(window),
    "vgg": Term(vgg),
    "gradient": Term(gradient, warmed=True),
    "adversarial": Term(lambda step: step.critics[0], warmed=True),
    "matching": Term(lambda step: step.critics[1], warmed=True),
    "variety": Term(variety_of_two, warmed=True),
    "heatmap": Term(heatmap),
    "identity": Term(identity),
}


def weighted_sum(step: Step, warm: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The painter's loss and its terms by name. warm: share in [0, 1] of the weight of the warmed ones."""
    made = {name: row.of(step) for name, row in TERMS.items()}
    terms = {name: term for name, term in made.items() if term is not None}
    scales = {name: getattr(step.config, f"{name}_weight") for name in terms}
    scales |= {name: scale * warm for name, scale in scales.items() if TERMS[name].warmed}
    if step.painted.extra is not None:  # the stage's own
        terms["velocity"], scales["velocity"] = step.painted.extra, 1.0
    total = sum(scales[name] * term for name, term in terms.items())
    return total, {name: term.detach() for name, term in terms.items()}


def repeated(x: torch.Tensor, copies: int) -> torch.Tensor:
    """[B, ...] -> [copies * B, ...], copy by copy."""
    return x.repeat(copies, *[1] * (x.ndim - 1))


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum(w v) / sum(w), 0 without any weight."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-3)


def per_sample_l1(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean |p - t| over the hole of each sample [B]; a hole counts at least 1 % of the picture."""
    error = ((predicted - target).abs() * mask).mean((1, 2, 3))
    return error / mask.mean((1, 2, 3)).clamp(min=0.01)


def unit_distance(predicted: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of the mean squared distance of unit-normalised features, a number a sample (Zhang et al. 2018,
    with w = 1): lists of [B, C, h, w] -> [B]."""
    pairs = zip(predicted, target, strict=True)
    return sum((a.float() - b.float()).square().sum(1).mean((1, 2)) for a, b in pairs)


def feature_distance(predicted: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of mean |phi(p) - phi(t)|, a number a sample: lists of [B, C, h, w] -> [B]."""
    pairs = zip(predicted, target, strict=True)
    return sum((a.float() - b.float()).abs().mean((1, 2, 3)) for a, b in pairs)


def best_of(values: torch.Tensor, copies: int, share: float = 0.8) -> torch.Tensor:
    """The best of a sample's `copies` counts `share`, the worst the rest (a variety loss, Gupta et al. 2018,
    arXiv:1803.10892, equation 3): only one of several candidates must be this photo, all must be believable.

    values: [copies * B], copy by copy -> [B].
    """
    if copies == 1:
        return values
    rows = values.view(copies, -1)
    return share * rows.amin(0) + (1 - share) * rows.amax(0)


def patch_weights(mask: torch.Tensor, weights: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Share of hole under each score times the sample's weight: mask [B, 1, H, W], weights [B] -> `shape`."""
    return F.adaptive_avg_pool2d(mask, tuple(shape[-2:])) * weights.view(-1, 1, 1, 1)


def hinge_critic(
    real: torch.Tensor, fake: torch.Tensor, weights: torch.Tensor, fake_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))] over the hidden patches (Lim and Ye 2017, arXiv:1705.02894).
    fake_weights: those of the fakes, where there are more of them than real ones."""
    theirs = weights if fake_weights is None else fake_weights
    return weighted_mean(F.relu(1 - real.float()), weights) + weighted_mean(F.relu(1 + fake.float()), theirs)


def hinge_painter(fake: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """-E[D(fake)] over the hidden patches."""
    return -weighted_mean(fake.float(), weights)


def matching(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """Sum over layers of mean |D_l(fake) - D_l(real)| (pix2pixHD, equation 4), weighted by sample [B]."""
    return weighted_mean(feature_distance(fake, [f.detach() for f in real]), weights)


def variety(features: Sequence[torch.Tensor], copies: int, least: float, weights: torch.Tensor) -> torch.Tensor:
    """max(0, least - distance of two candidates) (mode seeking, Mao et al. 2019, arXiv:1903.05628, with a floor in
    place of a ratio: beyond it nothing is gained). features: of [copies * B] windows; weights [B]; copies >= 2."""
    first = [f.unflatten(0, (copies, -1))[0] for f in features]
    second = [f.unflatten(0, (copies, -1))[1] for f in features]
    return weighted_mean(F.relu(least - unit_distance(first, second)), weights)


def gradient_length(picture: torch.Tensor) -> torch.Tensor:
    """Length of the gradient of the colours' mean by central differences, [B, 3, H, W] -> [B, 1, H - 2, W - 2]."""
    grey = picture.float().mean(1, keepdim=True)
    dx, dy = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    return (dx.square() + dy.square() + 1e-6).sqrt() / 2


def gradient_gap(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """|g(p) - g(t)| / g(t), a number a sample [B]: g is the mean length of the gradient over the hidden pixels. It asks
    for as much detail as there was, wherever it is; critics say which detail. 0 where nothing is hidden."""
    hidden = mask[..., 1:-1, 1:-1]
    area = hidden.sum((1, 2, 3)).clamp(min=1.0)
    p, t = ((gradient_length(x) * hidden).sum((1, 2, 3)) / area for x in (predicted, target))
    return (p - t).abs() / t.clamp(min=0.01) * (hidden.sum((1, 2, 3)) > 0)
