"""Conditions as they will be at inference, made of photos by the frozen face networks.

Landmarks are predicted from the masked photo; identity comes from 1-5 other photos of the person, from the visible
part of the face, or from nowhere, at random; skin from the whole photo, since it only weighs losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from identity_terms import align_faces, load_frozen

from idinpaint.data import PhotoEntry
from idinpaint.faces.parsing import PARSING_CLASSES, upsample
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.tensors import to_tensor

# Parts of CelebAMask-HQ's `skin` region as the losses mean it: the face without brows, eyes and mouth.
SKIN = tuple(PARSING_CLASSES.index(name) for name in ("skin", "nose"))


@dataclass
class FaceExample:
    """landmarks: [B, 68, 2] px; id_embed: [B, D], zeros for none; skin_mask: [B, 1, 256, 256]."""

    landmarks: torch.Tensor
    id_embed: torch.Tensor
    skin_mask: torch.Tensor


class FaceConditions:
    """Frozen landmark, parsing and identity networks over a set of photos [N, 256, 256, 3] uint8."""

    def __init__(
        self,
        entries: list[PhotoEntry],
        photos: np.ndarray,
        networks: dict[str, str],  # landmarks, parsing, identity -> safetensors file
        device: torch.device,
    ) -> None:
        self.device = device
        self.landmarker = load_frozen(FaceMaps(68), networks["landmarks"], device)
        self.parser = load_frozen(FaceMaps(len(PARSING_CLASSES)), networks["parsing"], device)
        self.identity = load_frozen(IdentityNet(), networks["identity"], device)
        groups: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            if entry.person:
                groups.setdefault(entry.person, []).append(index)
        self.others = [[i for i in groups.get(e.person, []) if i != index] for index, e in enumerate(entries)]
        whole = torch.zeros(32, 1, 256, 256)
        parts = []
        for start in range(0, len(photos), 32):
            images = to_tensor(photos[start : start + 32])
            parts.append(self._read(images, whole[: len(images)])[1])
        self.embeddings = torch.cat(parts)

    @torch.no_grad()
    def _read(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Landmarks and identity of what is visible; both on the CPU."""
        mask = mask.to(self.device)
        image = image.to(self.device) * (1 - mask)
        points = expected_points(self.landmarker(image, mask))[0].float() * 4 + 1.5  # cells of 4 px -> crop px
        return points.cpu(), self.identity(align_faces(image, points)).float().cpu()

    @torch.no_grad()
    def __call__(
        self, generators: list[np.random.Generator], index: list[int], image: torch.Tensor, mask: torch.Tensor
    ) -> FaceExample:
        """Conditions of photos `index` as augmented: image [B, 3, 256, 256] in [-1, 1], mask [B, 1, 256, 256].

        generators: one a sample, so that a sample does not depend on its batch.
        """
        points, visible = self._read(image, mask)
        embeds = [self._identity(rng, i, v) for rng, i, v in zip(generators, index, visible, strict=True)]
        classes = upsample(self.parser(image.to(self.device), torch.zeros_like(mask).to(self.device))).argmax(1).cpu()
        skin = torch.isin(classes, torch.tensor(SKIN)).float()[:, None]
        return FaceExample(points, torch.stack(embeds), skin)

    def _identity(self, rng: np.random.Generator, index: int, visible: torch.Tensor) -> torch.Tensor:
        draw, others = rng.random(), self.others[index]
        if draw < 0.5 and others:
            chosen = rng.choice(others, min(len(others), int(rng.integers(1, 6))), replace=False)
            return F.normalize(self.embeddings[torch.from_numpy(chosen)].mean(0), dim=-1)
        return visible if draw < 0.9 else torch.zeros_like(visible)
