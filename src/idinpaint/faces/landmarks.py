"""68 landmarks (iBUG order) of a crop, hidden ones too, and the heatmaps that condition the generators."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from idinpaint.models.weights import FAN_FILE, download_path
from idinpaint.types import InputError

CELL = 4  # crop px a heatmap cell


class LandmarkPredictor(Protocol):
    """What the bundled network and `face-alignment` (2DFAN) both offer."""

    def predict(self, crop: np.ndarray, crop_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """crop: [256, 256, 3] uint8, crop_mask: [256, 256] bool -> points [68, 2] crop px, confidence [68]."""


class Landmarker:
    """The bundled heatmap-regression network."""

    def __init__(self, net, device: str = "cpu") -> None:
        self.net, self.device = net.eval().to(device), device

    def predict(self, crop: np.ndarray, crop_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See LandmarkPredictor; pixels under the mask are never read."""
        points, confidence = self.predict_batch(crop[None], crop_mask[None])
        return points[0], confidence[0]

    def predict_batch(self, crops: np.ndarray, crop_masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """crops [B, 256, 256, 3] uint8, crop_masks [B, 256, 256] bool -> points [B, 68, 2], confidence [B, 68]."""
        import torch

        from idinpaint.models.face_maps import expected_points
        from idinpaint.models.tensors import to_tensor

        mask = torch.from_numpy(crop_masks[:, None]).float().to(self.device)
        with torch.inference_mode():
            logits = self.net(to_tensor(crops).to(self.device) * (1 - mask), mask)
            points, confidence = expected_points(logits)
        # cell i is centred on crop px 4 i + 1.5
        return points.cpu().numpy() * CELL + (CELL - 1) / 2, confidence.cpu().numpy()


class FaceAlignmentLandmarker:
    """2DFAN-4 through the `face-alignment` extra (Bulat & Tzimiropoulos 2017), where `idinpaint download 2dfan` put it.

    Raises InputError without the package or the weights; it fetches nothing.
    """

    def __init__(self, device: str = "cpu") -> None:
        try:
            import face_alignment
        except ImportError as error:
            raise InputError("face-alignment is not installed; pip install 'idinpaint[face-alignment]'") from error
        path = download_path(FAN_FILE)
        if not path.is_file():
            raise InputError(f"--landmarks face-alignment: {path} is not there; `idinpaint download 2dfan` fetches it")
        try:
            self.net = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D, device=device, face_detector="folder", compile=False
            )
        except Exception as error:  # of torch.load, by the dozen
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: cannot be loaded ({reason}); delete it and fetch it again") from error

    def predict(self, crop: np.ndarray, crop_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See LandmarkPredictor; the network was not trained on holes, hidden points are weaker."""
        side = crop.shape[0]
        points, scores, _ = self.net.get_landmarks_from_image(
            crop * ~crop_mask[..., None],
            detected_faces=[[0.1 * side, 0.15 * side, 0.9 * side, side]],
            return_landmark_score=True,
        )
        return np.asarray(points[0], np.float64), np.clip(np.asarray(scores[0]), 0, 1)
