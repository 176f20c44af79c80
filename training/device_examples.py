"""Training examples made on the device, a batch at once: photos, holes, conditions and reference pictures.

Nothing waits for the CPU: photos, masks and landmarks lie on the device, and every draw is a tensor. Conditions are
those of inference: landmarks predicted from the masked photo; identity from other photos of the person, from the whole
photo itself with noise (as Arc2Face trains, Papantoniou et al. 2024, arXiv:2403.11641), from the visible part, or none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from hidden_masks import component_centres, draw_holes, hidden_places, hidden_shares
from identity_faces import crop_points
from network_files import load_frozen
from photo_source import others_of
from picture_changes import (
    affine,
    aged,
    arcface_faces,
    blurred,
    compose,
    inverse,
    mapped,
    relit,
    shaded,
    swapped,
    warp_reflecting,
)

from idinpaint.data.packed import PackedFaces
from idinpaint.imaging.masks import random_mask
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.points import affine_between, mirrored_points
from idinpaint.models.references import own_mirror, reference_input
from idinpaint.models.tensors import constant

ENOUGH = 0.15  # of the middle of a component's window is hidden: the losses look at it


@dataclass
class ExampleConfig:
    """What the examples are made of."""

    landmarks: str = "runs/bundle/landmarks.safetensors"
    identity: str = "runs/bundle/identity.safetensors"
    feature_share: float = 0.6  # of the holes lie over facial features
    torn_share: float = 0.12  # take a corner or an edge; the rest comes from the bank of masks
    both_share: float = 0.2  # of those over features also carry a mask of the bank
    bank_size: int = 1000  # generated masks beside those of the data set
    grey_share: float = 0.12  # of the photos are monochrome or sepia
    shade_share: float = 0.15  # stand in a hard light from one side
    whole_identity: float = 0.45  # without other photos of the person: the whole photo's vector with noise, or
    visible_identity: float = 0.35  # that of the visible part, as in a restoration without references; else none
    slots: int = 2  # reference pictures beside the face's own mirrored half
    no_reference: float = 0.4
    stranger: float = 0.15  # of the samples with references see a stranger's
    same_person: float = 0.65  # of the rest, where there are others of the person, see those; else itself, altered
    component_window: int = 80  # px


@dataclass
class Examples:
    """One batch. image, masked_image: [B, 3, 256, 256] in [-1, 1]; mask: [B, 1, 256, 256], 1 = hole; points: [B, 68, 2]
    true landmarks, predicted: those read from the masked photo; id_embed: [B, D], zeros for none; references:
    [B, R, 5, 256, 256]; centres: middles of the windows of COMPONENTS [B, 6, 2] px; hidden: 1 where enough of one is
    hidden [B, 6]; place: one in the hole or on its rim [B, 2] px."""

    image: torch.Tensor
    masked_image: torch.Tensor
    mask: torch.Tensor
    points: torch.Tensor
    predicted: torch.Tensor
    id_embed: torch.Tensor
    references: torch.Tensor
    centres: torch.Tensor
    hidden: torch.Tensor
    place: torch.Tensor


class DeviceExamples:
    """All photos of one split of a pack on the device, and the batches made of them."""

    def __init__(self, pack: PackedFaces, config: ExampleConfig, device: torch.device, split: str = "train") -> None:
        self.config, self.device = config, device
        rows = pack.rows(split)
        self.photos = torch.from_numpy(pack.photos(rows, 8)).permute(0, 3, 1, 2).contiguous().to(device)  # uint8
        self.points = torch.from_numpy(pack.landmarks[rows]).to(device)
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device)
        self.identity = load_frozen(IdentityNet(), config.identity, device)
        self.others, self.counts = self._people([pack.people[row] for row in rows])
        self.bank = self._bank(pack)
        parts = zip(self.photos.split(256), self.points.split(256), strict=True)
        self.embeddings = torch.cat([self.embed(self.pixels(p), q) for p, q in parts])

    @staticmethod
    def pixels(photos: torch.Tensor) -> torch.Tensor:
        """uint8 -> float32 in [-1, 1]."""
        return photos.float() / 127.5 - 1

    def _people(self, people: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """For each photo the other photos of its person, in random order and repeated to 16 [N, 16], and their number
        [N]; where there is none the photo itself."""
        rng, others = np.random.default_rng(0), others_of(people)
        counts = torch.tensor([len(them) for them in others], device=self.device)
        shuffled = [np.resize(rng.permutation(them or [index]), 16) for index, them in enumerate(others)]
        return torch.from_numpy(np.stack(shuffled)).to(self.device), counts

    def _bank(self, pack: PackedFaces) -> torch.Tensor:
        """Masks of the data set and generated ones, [M, 256, 256] uint8."""
        files = pack.masks()
        rng = np.random.default_rng(0)
        made = [random_mask(rng, 256, list(files), 0.5) for _ in range(self.config.bank_size)]
        return torch.from_numpy(np.stack(made).astype(np.uint8)).to(self.device)

    @torch.no_grad()
    def embed(self, image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Unit identity vectors [B, D] of pictures in [-1, 1], holes zeroed."""
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.identity(arcface_faces(image, points)).float()

    @torch.no_grad()
    def predict(self, masked_image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Landmarks [B, 68, 2] px from what is visible."""
        with torch.autocast(self.device.type, torch.bfloat16):
            return crop_points(self.landmarker, masked_image, mask)

    def _target(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Photos moved, turned, zoomed and mirrored, [B, 3, 256, 256] in [-1, 1], and their landmarks."""
        b = len(index)
        flip = torch.rand(b, device=self.device) < 0.5
        maps = affine(b, self.device, 0.04, 0.0, 4.0)
        zoom = (1.06 + 0.05 * torch.randn(b, device=self.device)).clamp(0.95, 1.2).view(-1, 1, 1)
        middle = torch.full((2, 1), 127.5, device=self.device)
        maps = torch.cat([maps[:, :, :2] / zoom, middle + (maps[:, :, 2:] - middle) / zoom], 2)
        # Half are only moved by whole pixels: resampling softens, and a network learns to paint what it is shown.
        whole = constant(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), self.device).expand(b, -1, -1).clone()
        whole[:, :, 2] = (torch.randn(b, 2, device=self.device) * 5).round()
        maps = torch.where(torch.rand(b, 1, 1, device=self.device) < 0.5, whole, maps)
        mirror = constant(((-1.0, 0.0, 255.0), (0.0, 1.0, 0.0)), self.device).expand(b, -1, -1)
        maps = torch.where(flip.view(-1, 1, 1), compose(mirror, maps), maps)
        image = warp_reflecting(self.pixels(self.photos[index]), maps).clamp(-1, 1)
        points = mapped(self.points[index], inverse(maps))
        return image, torch.where(flip.view(-1, 1, 1), swapped(points), points)

    def _references(
        self, index: torch.Tensor, predicted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(references [B, slots, 5, 256, 256], mean identity of those that are other photos of the person [B, D], and
        1 where there is such a one [B])."""
        config, b, device = self.config, len(index), self.device
        none = torch.rand(b, device=device) < config.no_reference
        stranger = torch.rand(b, device=device) < config.stranger
        other = (self.counts[index] > 0) & (torch.rand(b, device=device) < config.same_person) & ~stranger
        count = torch.randint(1, config.slots + 1, (b,), device=device)
        start = torch.randint(16, (b,), device=device)
        pictures, means = [], torch.zeros(b, self.embeddings.shape[1], device=device)
        for slot in range(config.slots):
            alien = torch.randint(len(self.photos), (b,), device=device)
            theirs = self.others[index, (start + slot) % 16]
            chosen = torch.where(stranger, alien, torch.where(other, theirs, index))
            itself = ~stranger & ~other
            picture, points = self._altered(chosen, itself)
            shown = (~none & (slot < count)).float().view(-1, 1, 1, 1)
            points = points + torch.randn_like(points) * 1.2
            maps = affine_between(points, predicted)
            pictures.append(reference_input(picture, torch.ones_like(picture[:, :1]), maps, 0.0) * shown)
            means = means + self.embeddings[chosen] * (shown.view(-1, 1) * other.float()[:, None])
        return torch.stack(pictures, 1), F.normalize(means, dim=-1), (other & ~none).float()

    def _altered(self, chosen: torch.Tensor, itself: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reference photos and their landmarks: the sample's own photo in another light, turned, mirrored and softer,
        so that it cannot be copied; other photos only a little changed."""
        b = len(chosen)
        picture, points = self.pixels(self.photos[chosen]), self.points[chosen]
        mirror = (torch.rand(b, device=self.device) < torch.where(itself, 0.4, 0.1)).view(-1, 1, 1)
        picture = torch.where(mirror[..., None], picture.flip(-1), picture)
        points = torch.where(mirror, mirrored_points(points), points)
        own = itself.view(-1, 1, 1, 1)
        picture = torch.where(own, blurred(relit(picture, 0.16), 0.5), blurred(relit(picture, 0.04), 0.15))
        jitter = torch.randn(b, 68, 2, device=self.device) * torch.where(itself, 2.5, 0.5).view(-1, 1, 1)
        return aged(picture, 0.05), points + jitter

    def _identity(
        self, index: torch.Tensor, visible: torch.Tensor, means: torch.Tensor, given: torch.Tensor
    ) -> torch.Tensor:
        """Where references of the person are shown mostly their mean; else the whole photo's vector with noise, to the
        similarity of two photos of a person, the visible part's, or nothing."""
        b = len(index)
        cosine = 0.5 + 0.4 * torch.rand(b, 1, device=self.device)
        whole = self.embeddings[index]
        noise = torch.randn_like(whole)
        noise = F.normalize(noise - (noise * whole).sum(1, keepdim=True) * whole, dim=-1)
        noised = cosine * whole + (1 - cosine.square()).sqrt() * noise
        draw, config = torch.rand(b, 1, device=self.device), self.config
        some = config.whole_identity + config.visible_identity
        seen = torch.where(draw < some, visible, torch.zeros_like(visible))
        plain = torch.where(draw < config.whole_identity, noised, seen)
        return torch.where((given[:, None] > 0) & (draw < 0.85), means, plain)

    @torch.no_grad()
    def batch(self, size: int, index: torch.Tensor | None = None) -> Examples:
        """`size` examples; index: places of the photos, at random when None."""
        if index is None:
            index = torch.randint(len(self.photos), (size,), device=self.device)
        image, points = self._target(index)
        config = self.config
        image = aged(shaded(relit(image, 0.05), config.shade_share), config.grey_share)
        mask = draw_holes(points, self.bank, (config.feature_share, config.torn_share, config.both_share))
        return self.complete(index, image, points, mask)

    @torch.no_grad()
    def complete(self, index: torch.Tensor, image: torch.Tensor, points: torch.Tensor, mask: torch.Tensor) -> Examples:
        """The conditions of given pictures under given holes."""
        masked = image * (1 - mask)
        predicted = self.predict(masked, mask)
        references, means, given = self._references(index, predicted)
        references = torch.cat([own_mirror(masked, mask, predicted)[:, None], references], 1)
        visible = self.embed(masked, predicted)
        size = self.config.component_window
        centres = component_centres(points).clamp(size / 2, 255 - size / 2)
        hidden = (hidden_shares(centres, mask, size) > ENOUGH).float()
        return Examples(
            image, masked, mask, points, predicted, self._identity(index, visible, means, given), references,
            centres, hidden, hidden_places(mask, size),
        )  # fmt: skip
