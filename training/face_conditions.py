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
from run_log import progress

from idinpaint.data.photos import PhotoEntry
from idinpaint.faces.parsing import PARSING_CLASSES, upsample
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.tensors import to_tensor

# Parts of CelebAMask-HQ's `skin` region as the losses mean it: the face without brows, eyes and mouth.
SKIN = tuple(PARSING_CLASSES.index(name) for name in ("skin", "nose"))


@dataclass
class FaceExample:
    """landmarks: [B, 68, 2] px; id_embed: [B, D], zeros for none; skin_mask: [B, 1, 256, 256]."""

    landmarks: torch.Tensor
    id_embed: torch.Tensor
    skin_mask: torch.Tensor


def people_of(entries: list[PhotoEntry]) -> list[list[int]]:
    """For each photo the places of the other photos of its person, none when the person is unknown."""
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        if entry.person:
            groups.setdefault(entry.person, []).append(index)
    return [[i for i in groups.get(entry.person, []) if i != index] for index, entry in enumerate(entries)]


def draw_identity(
    rng: np.random.Generator,
    embeddings: torch.Tensor,
    others: list[int],
    visible: torch.Tensor,
    reference_share: float = 0.5,
    drop_identity: float = 0.1,
) -> torch.Tensor:
    """Mean of 1-5 other photos of the person, else the visible part, else nothing (zeros): [D].

    embeddings: [N, D] of all photos; others: places of the person's other photos; visible: [D].
    """
    draw = rng.random()
    if draw < reference_share and others:
        chosen = rng.choice(others, min(len(others), int(rng.integers(1, 6))), replace=False)
        return F.normalize(embeddings[torch.from_numpy(chosen)].mean(0), dim=-1)
    return visible if draw < 1 - drop_identity else torch.zeros_like(visible)


def skin_of(parser: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Where the whole photo shows skin: image [B, 3, 256, 256] in [-1, 1] -> [B, 1, 256, 256] in {0, 1}."""
    classes = upsample(parser(image, torch.zeros_like(image[:, :1]))).argmax(1)
    return torch.isin(classes, torch.tensor(SKIN, device=classes.device)).float()[:, None]


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
        self.others = people_of(entries)
        whole = torch.zeros(32, 1, 256, 256)
        parts = []
        for start in progress(range(0, len(photos), 32), -(-len(photos) // 32), "reading the photos' identities"):
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
        rows = zip(generators, index, visible, strict=True)
        embeds = [draw_identity(rng, self.embeddings, self.others[i], v) for rng, i, v in rows]
        return FaceExample(points, torch.stack(embeds), skin_of(self.parser, image.to(self.device)).cpu())
