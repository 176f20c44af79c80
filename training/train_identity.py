"""Distil the bundled identity encoder from a published ArcFace MobileFaceNet, on masked faces.

See configs/identity.yaml. The student sees a face with random occlusion and must give what the teacher gives
for the whole face (embed(masked) ~ embed(full)); an ArcFace margin on the training people may be added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from engine import Batch, Draw, LoopConfig, Terms, main_process, run_script, save_weights, train
from equations.pictures import identity_loss
from run_log import progress

from idinpaint.data.photos import (
    list_identity_folders,
    list_photos,
    load_photos,
    load_training_masks,
    read_split,
    training_photos,
    validation_photos,
    with_landmarks,
)
from idinpaint.data.prepared import prepared_folders
from idinpaint.faces.alignment import arcface_matrix
from idinpaint.imaging.masks import random_mask
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.teachers import load_mobilefacenet
from idinpaint.models.tensors import to_tensor


@dataclass
class IdentityConfig(LoopConfig):
    """Settings of the identity recipe."""

    FILES: ClassVar[dict[str, Sequence[str]]] = {"teacher": ()}
    RESULT: ClassVar[str] = "identity.safetensors"

    teacher: str = "mobilefacenet_foamliu_arcface.pt"
    masked_share: float = 0.6
    max_ratio: float = 0.5
    cache: str = "runs/cache/identity.npz"


def align_faces(photos: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """[N, 256, 256, 3] and landmarks [68, 2] -> [N, 112, 112, 3] on the ArcFace template."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # arcface_matrix maps aligned px to photo px
    pairs = zip(photos, points, strict=True)
    return np.stack([cv2.warpAffine(p, arcface_matrix(q), (112, 112), flags=flags) for p, q in pairs])


def load_faces(config: IdentityConfig) -> np.ndarray:
    """Every aligned training face, [N, 112, 112, 3] uint8; no test or validation person among them."""
    data, splits = Path(config.train_data_dir), Path(config.splits_dir)
    if prepared_folders(data):
        entries, points = with_landmarks(training_photos(data, splits), data)
        return align_faces(load_photos(entries), points)
    faces = [
        load_photos(list_identity_folders(data / "celeba_id112", read_split(splits / "celeba_id112_test.txt")), 112)
    ]
    held = read_split(splits / "celeba_id256_test.txt") + read_split(splits / "celeba_id256_val.txt")
    entries = list_identity_folders(data / "celeba_id256", held)
    entries += list_photos(data / "CelebAMask-HQ" / "CelebA-HQ-img", read_split(splits / "celebamask_test.txt"))
    entries, points = with_landmarks(entries, data)
    faces.append(align_faces(load_photos(entries), points))
    return np.concatenate(faces)


@torch.no_grad()
def teacher_embeddings(faces: np.ndarray, config: IdentityConfig) -> torch.Tensor:
    """Mean of the teacher's embeddings of each face and its mirror image, [N, 128] unit, cached on disk."""
    cache = Path(config.cache)
    digest = hashlib.sha256(faces).hexdigest()
    if cache.exists():
        with np.load(cache) as table:
            if str(table["digest"]) == digest:
                return torch.from_numpy(table["embeddings"])
    torch.set_num_threads(max(1, config.threads))
    teacher = load_mobilefacenet(config.teacher)
    out = []
    for start in progress(range(0, len(faces), 64), -(-len(faces) // 64), "what the teacher says of the photos"):
        batch = to_tensor(faces[start : start + 64]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            out.append(F.normalize(teacher(batch).float() + teacher(batch.flip(-1)).float(), dim=-1))
    embeddings = torch.cat(out)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, embeddings=embeddings.numpy(), digest=digest)
    return embeddings


def augment_face(rng: np.random.Generator, face: np.ndarray) -> np.ndarray:
    """Small misalignment, mirror, tone, blur: what detection and old photos do to a face."""
    matrix = cv2.getRotationMatrix2D((56, 56), rng.normal(0, 4), 1 + rng.normal(0, 0.04))
    matrix[:, 2] += rng.normal(0, 1.5, 2)
    face = cv2.warpAffine(face, matrix, (112, 112), borderMode=cv2.BORDER_REFLECT)
    if rng.random() < 0.5:
        face = face[:, ::-1]
    if rng.random() < 0.15:
        small = int(rng.integers(40, 112))
        face = cv2.resize(cv2.resize(face, (small, small), interpolation=cv2.INTER_AREA), (112, 112))
    tone = face.astype(np.float32) * rng.uniform(0.8, 1.2) + rng.uniform(-15, 15)
    if rng.random() < 0.1:
        tone = np.repeat(tone.mean(-1, keepdims=True), 3, -1)
    return tone.clip(0, 255).astype(np.uint8)


def main(config: IdentityConfig) -> None:
    """Load, distil, write identity.safetensors."""
    config.prepare()
    faces = load_faces(config)
    targets = teacher_embeddings(faces, config)
    masks = load_training_masks(config.train_data_dir, config.splits_dir, size=128)

    def make_batch(draw: Draw) -> Batch:
        generators = draw.generators()
        index = np.array([rng.integers(len(faces)) for rng in generators])
        empty = np.zeros((112, 112), bool)
        holes = [
            random_mask(rng, 112, masks, config.max_ratio) if rng.random() < config.masked_share else empty
            for rng in generators
        ]
        known = 1 - torch.from_numpy(np.stack(holes)[:, None]).float()
        images = to_tensor(np.stack([augment_face(rng, faces[i]) for rng, i in zip(generators, index, strict=True)]))
        return {"image": images * known, "target": targets[torch.from_numpy(index)]}

    def loss_function(model: torch.nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        return identity_loss(model(batch["image"]), batch["target"]), {}

    held = validation_photos(config.train_data_dir, config.splits_dir)
    held, points = with_landmarks(held, config.train_data_dir)
    held_faces = align_faces(load_photos(held), points)
    rng = np.random.default_rng(3)
    held_known = torch.from_numpy(np.stack([~random_mask(rng, 112, masks, 0.4) for _ in held])[:, None]).float()
    person = np.array([e.person for e in held])

    @torch.no_grad()
    def validate(model: torch.nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        images = to_tensor(held_faces).to(device)
        full, masked = model(images), model(images * held_known.to(device))
        cosine = (full @ full.T).cpu().numpy()
        same = person[:, None] == person[None]
        genuine, impostor = cosine[same & ~np.eye(len(same), dtype=bool)], np.sort(cosine[~same])
        figures = {"val_masked_cosine": float((full * masked).sum(1).mean())}
        if len(genuine) and len(impostor):  # several photos of each of several people
            figures["val_auc"] = float((np.searchsorted(impostor, genuine) / len(impostor)).mean())
        return figures

    ema = train(config, IdentityNet, make_batch, loss_function, validate)
    if main_process():
        save_weights(ema, f"{config.output_dir}/identity.safetensors")


if __name__ == "__main__":
    run_script(main, IdentityConfig)
