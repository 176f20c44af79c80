"""Face parsing: a class a pixel, for hidden pixels too."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from idinpaint.tensors import to_tensor

# CelebAMask-HQ's parts, merged; "left" and "right" are the picture's sides. Ears count as skin.
PARSING_CLASSES = (
    "background", "skin", "right_brow", "left_brow", "right_eye", "left_eye", "nose", "mouth", "hair",
    "neck_cloth_other",
)  # fmt: skip


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
