"""Training photos under random holes, and what is known of a face at inference, by the frozen face networks.

Landmarks are predicted from the masked photo; identity comes from 1-5 other photos of the person, from the visible
part of the face, or from nowhere, at random; skin from the whole photo, since it only weighs losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from identity_faces import align_faces, crop_points
from loop_config import LoopConfig
from network_files import load_frozen
from run_log import progress

from idinpaint.data.photos import load_photos, load_training_masks, training_photos, validation_photos
from idinpaint.faces.parsing import PARSING_CLASSES, upsample
from idinpaint.imaging.masks import feature_block, random_mask
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.tensors import to_tensor

# Parts of CelebAMask-HQ's `skin` region as the losses mean it: the face without brows, eyes and mouth.
SKIN = tuple(PARSING_CLASSES.index(name) for name in ("skin", "nose"))


def jitter(rng: np.random.Generator, photo: np.ndarray, max_crop: float = 0.12) -> np.ndarray:
    """Flip and crop slightly (resized back), as detection at inference will be off by as much."""
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    side = photo.shape[0]
    crop = int(side * (1 - rng.uniform(0, max_crop)))
    y, x = rng.integers(0, side - crop + 1, 2)
    return cv2.resize(
        np.ascontiguousarray(photo[y : y + crop, x : x + crop]), (side, side), interpolation=cv2.INTER_AREA
    )


class PhotoSource:
    """Photos [N, side, side, 3] uint8 and the data set's masks. max_ratio: of a hole in the picture; feature_share: of
    the holes hide a whole feature, of which only the identity can tell."""

    def __init__(self, config: LoopConfig, side: int = 256, max_ratio: float = 0.6, feature_share: float = 0.0) -> None:
        self.data, self.side, self.max_ratio, self.feature_share = config, side, max_ratio, feature_share
        self.entries = training_photos(config.train_data_dir, config.splits_dir)
        self.photos = load_photos(self.entries, side)
        self.masks = load_training_masks(config.train_data_dir, config.splits_dir)

    def hole(self, rng: np.random.Generator) -> np.ndarray:
        """bool [side, side], True = hole."""
        if self.feature_share and rng.random() < self.feature_share:
            return feature_block(rng, self.side)
        return random_mask(rng, self.side, self.masks, self.max_ratio)

    def draw(self, generators: Sequence[np.random.Generator]) -> tuple[list[int], np.ndarray, np.ndarray]:
        """(places of the photos, photos as augmented [B, side, side, 3] uint8, holes [B, side, side] bool), a sample a
        generator."""
        index = [int(rng.integers(len(self.photos))) for rng in generators]
        photos = np.stack([jitter(rng, self.photos[i]) for rng, i in zip(generators, index, strict=True)])
        return index, photos, np.stack([self.hole(rng) for rng in generators])

    def held(self, every: int = 3, count: int = 32) -> np.ndarray:
        """Some photos of the validation people."""
        entries = validation_photos(self.data.train_data_dir, self.data.splits_dir)
        return load_photos(entries[::every][:count], self.side)

    def held_holes(self, count: int, max_ratio: float = 0.35) -> np.ndarray:
        """Holes for those, always the same: bool [count, side, side]."""
        rng = np.random.default_rng(1)
        return np.stack([random_mask(rng, self.side, self.masks, max_ratio) for _ in range(count)])


def others_of(people: list[str]) -> list[list[int]]:
    """For the person of each photo, "" for unknown, the places of the other photos of that person."""
    groups: dict[str, list[int]] = {"": []}
    for index, person in enumerate(people):
        if person:
            groups.setdefault(person, []).append(index)
    return [[i for i in groups[person] if i != index] for index, person in enumerate(people)]


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


class FaceConditions:
    """Frozen landmark, identity and parsing networks, and the identities of all photos of a source.

    The config names their files; skin: whether the parsing network is wanted; bf16: landmarks and identity under
    autocast.
    """

    def __init__(
        self, config: Any, source: PhotoSource, device: torch.device, skin: bool = True, bf16: bool = False
    ) -> None:
        self.device = device
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device)
        self.parser = load_frozen(FaceMaps(len(PARSING_CLASSES)), config.parsing, device) if skin else None
        self.identity = load_frozen(IdentityNet(), config.identity, device)
        self.others = others_of([entry.person for entry in source.entries])
        whole, photos, parts = torch.zeros(32, 1, 256, 256), source.photos, []
        for start in progress(range(0, len(photos), 32), -(-len(photos) // 32), "reading the photos' identities"):
            images = to_tensor(photos[start : start + 32])
            parts.append(self.read(images, whole[: len(images)])[0])
        self.embeddings = torch.cat(parts)

    @torch.no_grad()
    def read(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The identity of the visible part [B, D] and predicted landmarks [B, 68, 2] in crop px, both on the CPU."""
        mask = mask.to(self.device)
        image = image.to(self.device) * (1 - mask)
        with self.autocast:
            points = crop_points(self.landmarker, image, mask)
            return self.identity(align_faces(image, points)).float().cpu(), points.cpu()

    def identities(
        self, generators: list[np.random.Generator], index: list[int], visible: torch.Tensor, *shares: float
    ) -> torch.Tensor:
        """What is known of the persons of photos `index`, [B, D]; see `draw_identity`, whose shares are given."""
        rows = zip(generators, index, visible, strict=True)
        return torch.stack([draw_identity(rng, self.embeddings, self.others[i], v, *shares) for rng, i, v in rows])

    @torch.no_grad()
    def skin(self, image: torch.Tensor) -> torch.Tensor:
        """Where the whole photo shows skin: [B, 3, 256, 256] in [-1, 1] -> [B, 1, 256, 256] in {0, 1}."""
        image = image.to(self.device)
        classes = upsample(self.parser(image, torch.zeros_like(image[:, :1]))).argmax(1)
        return torch.isin(classes, torch.tensor(SKIN, device=classes.device)).float()[:, None]
