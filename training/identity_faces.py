"""What the identity loss of every recipe needs: frozen networks, and faces cut out differentiably."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from equations.pictures import identity_loss, relative_heatmap_loss
from network_files import load_frozen
from torch import nn

from idinpaint.faces.alignment import arcface_matrix
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.teachers import load_mobilefacenet
from idinpaint.models.tensors import constant
from idinpaint.types import LUMA


def crop_points(landmarker: nn.Module, masked_image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Landmarks [B, 68, 2] in crop px of what is visible: masked_image [B, 3, 256, 256], mask [B, 1, 256, 256]."""
    return expected_points(landmarker(masked_image, mask))[0] * 4 + 1.5  # cells of 4 px -> crop px


def heatmap_term(landmarker: nn.Module, painted: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """How far the landmarks' maps of the painted picture are from the true one's; gradients flow to `painted`."""
    nothing = image.new_zeros(len(image), 1, *image.shape[2:])
    with torch.no_grad():
        goal = landmarker(image, nothing)
    return relative_heatmap_loss(landmarker(painted, nothing), goal)


def identity_gap(encoders: Sequence[nn.Module], painted: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """1 - cosine of two batches of aligned faces, by their brightness, a mean over the encoders."""
    face, goal, terms = luma(painted), luma(image), []
    for encoder in encoders:
        with torch.no_grad():
            target = encoder(goal).float()
        terms.append(identity_loss(encoder(face).float(), target))
    return torch.stack(terms).mean()


def align_faces(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """[B, 3, 256, 256], landmarks [B, 68, 2] in crop px -> [B, 3, 112, 112] on the ArcFace template; differentiable."""
    side, size = image.shape[-1], 112
    matrices = np.stack([arcface_matrix(p) for p in points.cpu().double().numpy()])  # aligned px -> crop px
    matrix = torch.from_numpy(matrices).float().to(image.device)
    axis = torch.arange(size, device=image.device).float()
    ys, xs = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([xs, ys, torch.ones_like(xs)], -1).view(-1, 3)
    grid = torch.einsum("pk,bck->bpc", pixels, matrix).view(-1, size, size, 2)
    return F.grid_sample(image.float(), (2 * grid + 1) / side - 1, align_corners=False)


def luma(image: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] -> the same shape, its brightness (ITU-R BT.601) in all three channels."""
    weights = constant(LUMA, image.device).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True).expand_as(image)


class IdentityTerm:
    """1 - cosine between the faces of two pictures, averaged over several frozen encoders.

    More than one encoder, and brightness only, because a generator finds pixels that please an encoder and nobody
    else: trained on colours, it painted hidden eyes blue.
    """

    def __init__(self, landmarks: str, identity: str, teacher: str | None, device: torch.device) -> None:
        self.landmarker = load_frozen(FaceMaps(68), landmarks, device)
        self.encoders = [load_frozen(IdentityNet(), identity, device)]
        if teacher is not None:
            self.encoders.append(load_mobilefacenet(teacher).to(device))

    @classmethod
    def of(cls, config: Any, device: torch.device) -> IdentityTerm | None:
        """With the networks that a recipe names; None where the term has no weight."""
        if not config.identity_weight:
            return None
        return cls(config.landmarks, config.identity, config.identity_teacher, device)

    def __call__(self, inpainted: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """inpainted, image: [B, 3, H, W] in [-1, 1], H = W at most 256 -> scalar; gradients flow to `inpainted`."""
        inpainted, image = (F.interpolate(x, size=(256, 256), mode="bilinear") for x in (inpainted, image))
        with torch.no_grad():
            points = crop_points(self.landmarker, image, torch.zeros_like(image[:, :1]))
        return identity_gap(self.encoders, align_faces(inpainted, points), align_faces(image, points))
