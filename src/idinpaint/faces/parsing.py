"""Face parsing: a class a pixel, for hidden pixels too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from idinpaint.models.tensors import to_tensor

# CelebAMask-HQ's parts, merged; "left" and "right" are the picture's sides. Ears count as skin.
PARSING_CLASSES = (
    "background", "skin", "right_brow", "left_brow", "right_eye", "left_eye", "nose", "mouth", "hair",
    "neck_cloth_other",
)  # fmt: skip


# CelebAMask-HQ parts -> class, in the data set's own order of composition (its g_mask.py): hair lies over skin.
# Its l_ and r_ are the person's sides, so l_eye is the picture's right.
PART_CLASS = {
    "skin": "skin", "nose": "nose", "eye_g": "neck_cloth_other", "l_eye": "right_eye", "r_eye": "left_eye",
    "l_brow": "right_brow", "r_brow": "left_brow", "l_ear": "skin", "r_ear": "skin", "mouth": "mouth",
    "u_lip": "mouth", "l_lip": "mouth", "hair": "hair", "hat": "neck_cloth_other", "ear_r": "neck_cloth_other",
    "neck_l": "neck_cloth_other", "neck": "neck_cloth_other", "cloth": "neck_cloth_other",
}  # fmt: skip


def read_parts(root: Path, number: int) -> np.ndarray:
    """Labels [256, 256] uint8 of one CelebAMask-HQ photo, from its part files."""
    labels = np.zeros((256, 256), np.uint8)
    for part, path in part_files(root / "CelebAMask-HQ-mask-anno" / str(number // 2000), f"{number:05d}"):
        with Image.open(path) as image:
            inside = np.asarray(image.convert("L").resize((256, 256), Image.Resampling.NEAREST)) > 127
        labels[inside] = PARSING_CLASSES.index(PART_CLASS[part])
    return labels


def part_files(folder: Path, stem: str) -> Iterator[tuple[str, Path]]:
    """(part, its file) of one photo, in the order of composition: FOLDER/STEM_PART.png, for the parts that it has."""
    for part in PART_CLASS:
        path = folder / f"{stem}_{part}.png"
        if path.is_file():
            yield part, path


def upsample(logits: torch.Tensor) -> torch.Tensor:
    """[B, K, 64, 64] -> [B, K, 256, 256]: cell i is centred on crop px 4 i + 1.5."""
    return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


class FaceParser:
    """The bundled parsing network behind `predict`."""

    def __init__(self, net, device: str = "cpu") -> None:
        self.net, self.device = net.eval().to(device), device

    def predict(self, crop: np.ndarray, crop_mask: np.ndarray) -> np.ndarray:
        """crop: [256, 256, 3] uint8 RGB; crop_mask: [256, 256] bool, True = hole -> [256, 256] int64 class indices."""
        return self.predict_batch(crop[None], crop_mask[None])[0]

    def predict_batch(self, crops: np.ndarray, crop_masks: np.ndarray) -> np.ndarray:
        """The same for crops [B, 256, 256, 3] and crop_masks [B, 256, 256] -> [B, 256, 256]."""
        mask = torch.from_numpy(crop_masks[:, None]).float().to(self.device)
        with torch.inference_mode():
            logits = self.net(to_tensor(crops).to(self.device) * (1 - mask), mask).float()
        return upsample(logits).argmax(1).cpu().numpy()
