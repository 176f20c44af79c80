"""Small data sets in the layouts that training reads, and published networks with random weights; made, not shipped."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch
from PIL import Image

from idinpaint.faces.alignment import MP468_TO_IBUG68
from idinpaint.loading.bundle import load_faces
from idinpaint.models.teachers import MobileFaceNet
from idinpaint.models.weights import WeightStore

PEOPLE = ("7218", "7221", "ann", "bob", "eve")  # the first two are validation people of configs/splits
VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # convolutions of `features`


def portrait(rng: np.random.Generator) -> np.ndarray:
    """The astronaut's face, another tone and shift each time, [256, 256, 3] uint8."""
    y, x = rng.integers(0, 12, 2)
    pixels = skimage.data.astronaut()[y : y + 244, 100 + x : 344 + x].astype(np.float32)
    toned = (pixels * rng.uniform(0.7, 1.1, 3)).clip(0, 255).astype(np.uint8)
    return cv2.resize(toned, (256, 256))


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def raw_data(root: Path) -> Path:
    """celeba_id256, celeba_id112, CelebAMask-HQ, ffhq256, nvidia_irregular_masks and the landmark tables."""
    rng = np.random.default_rng(0)
    landmarker = load_faces(WeightStore())[0]
    meshes: dict[str, list] = {"celeba_id256": [], "CelebAMask-HQ": []}

    def add(table: str, key: str, photo: np.ndarray) -> None:
        mesh = np.zeros((468, 2), np.float32)
        mesh[list(MP468_TO_IBUG68)] = landmarker.predict(photo, np.zeros((256, 256), bool))[0]
        meshes[table].append((key, mesh / (256 if table == "CelebAMask-HQ" else 1)))

    for person in PEOPLE:
        for index in range(3):
            photo = portrait(rng)
            save(photo, root / "celeba_id256" / person / f"{index}.png")
            add("celeba_id256", f"{person}/{index}.png", photo)
            save(photo[72:184, 72:184], root / "celeba_id112" / person / f"{index}.webp")
    for index in range(4):
        photo = portrait(rng)
        save(photo, root / "CelebAMask-HQ" / "CelebA-HQ-img" / f"{index}.png")
        add("CelebAMask-HQ", f"{index}.png", photo)
        for part, box in (
            ("skin", (150, 120, 380, 460)),
            ("nose", (230, 230, 290, 330)),
            ("l_eye", (300, 210, 350, 240)),
        ):
            mask = np.zeros((512, 512), np.uint8)
            cv2.rectangle(mask, box[:2], box[2:], 255, -1)
            save(mask, root / "CelebAMask-HQ" / "CelebAMask-HQ-mask-anno" / "0" / f"{index:05d}_{part}.png")
    for name in ("ffhq256", "CelebAMask-HQ/extra-img"):
        save(portrait(rng), root / name / "9.png")
    hole = np.zeros((512, 512), np.uint8)
    hole[100:260, 200:400] = 255
    save(hole, root / "nvidia_irregular_masks" / "10-20" / "none.png")
    for table, path in (
        ("celeba_id256", "celeba_id256_landmarks_mp468.npz"),
        ("CelebAMask-HQ", "CelebAMask-HQ/landmarks_mp468.npz"),
    ):
        names, lm = zip(*meshes[table], strict=True)
        np.savez(root / path, names=np.array(names), lm=np.stack(lm))
    return root


def networks(folder: Path) -> Path:
    """AlexNet, a narrow VGG16 and the ArcFace teacher under the names of the published files, random."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    convolutions = {0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}
    narrow = {index: (3 if index == 0 else 4, 4, 3) for index in VGG16}
    for name, layers in (("alexnet", convolutions), ("vgg16", narrow)):
        state = {
            f"features.{i}.weight": torch.randn(o, c, k, k) / (c * k * k) ** 0.5 for i, (c, o, k) in layers.items()
        }
        state |= {f"features.{i}.bias": torch.zeros(o) for i, (_, o, _) in layers.items()}
        torch.save(state, folder / f"{name}_features_torchvision.pth")
    torch.save(MobileFaceNet().state_dict(), folder / "mobilefacenet_foamliu_arcface.pt")
    return folder
