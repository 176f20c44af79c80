"""How much a photo of a face says about who it is: size, blur, pose and occlusion."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from idinpaint.faces.alignment import scale_of, transform_points
from idinpaint.faces.identity import arcface_crop
from idinpaint.types import FaceAnalysis

# Each measure is 1 at and beyond `good` and falls linearly to 0 at `bad`.
EYE_DISTANCE = (6.0, 30.0)  # photo px between the eye centres: (bad, good); the 112 px template has 35
SHARPNESS = (0.05, 0.30)  # photos have 0.35 to 0.66, blurred by 2 px of 256 about 0.18, by 4 px 0.1;
# standard deviation of the Laplacian over that of the grey values, in the 112 px face
TURN = (0.50, 0.20)  # the nose tip's distance from the midline of the eyes, in eye distances
CONFIDENCE = (0.60, 0.82)  # mean landmark confidence: 0.9 in plain photos, 0.69 with mouth and nose covered
LEAST_WEIGHT = 0.05  # even a bad photo counts a little when there is no better one


@dataclass(frozen=True)
class FaceQuality:
    """Measures of one face, their scores in [0, 1] multiplied into weight, and in words what is wrong."""

    eye_distance_px: float
    sharpness: float
    turn: float
    confidence: float
    weight: float
    remarks: tuple[str, ...] = ()


def aligned_face(rgb: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """The face on the 112 px ArcFace template, [112, 112, 3] uint8, grey beyond the photo."""
    return arcface_crop(rgb, None, transform_points(face.crop_to_photo, face.landmarks))


def face_quality(face: FaceAnalysis, aligned: np.ndarray) -> FaceQuality:
    """Quality of an unmasked face; aligned: [112, 112, 3] uint8 of `aligned_face`."""
    lm = face.landmarks
    left, right = lm[36:42].mean(0), lm[42:48].mean(0)
    eyes = max(float(np.hypot(*(right - left))), 1e-6)
    along = (right - left) / eyes
    turn = abs(float((lm[30] - (left + right) / 2) @ along)) / eyes
    grey = cv2.cvtColor(aligned[16:96, 20:92], cv2.COLOR_RGB2GRAY).astype(np.float32)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).std() / max(float(grey.std()), 1.0))
    distance = eyes * scale_of(face.crop_to_photo)
    confidence = float(np.mean(face.landmark_confidence))
    scores = {
        f"small ({distance:.0f} px between the eyes)": _score(distance, EYE_DISTANCE),
        "blurred": _score(sharpness, SHARPNESS),
        "turned away": _score(turn, TURN),
        "partly covered or hard to read": _score(confidence, CONFIDENCE),
    }
    weight = max(LEAST_WEIGHT, float(np.prod(list(scores.values()))))
    remarks = tuple(words for words, score in scores.items() if score < 0.5)
    return FaceQuality(distance, sharpness, turn, confidence, weight, remarks)


def _score(value: float, bounds: tuple[float, float]) -> float:
    bad, good = bounds
    return float(np.clip((value - bad) / (good - bad), 0.0, 1.0))
