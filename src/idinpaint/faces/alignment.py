"""Face alignment: from 68 landmarks (or a detector's box) to an upright 256 px crop, and back.

All matrices are [2, 3] float64 affine maps acting on (x, y) in px; integer coordinates are pixel centres.
"""

from __future__ import annotations

import numpy as np

# MediaPipe face mesh (468 points) -> iBUG-68: jaw, brows, nose, eyes, outer lips, inner lips.
MP468_TO_IBUG68 = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107),
    *(336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144),
    *(362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)


def mp468_to_68(landmarks: np.ndarray) -> np.ndarray:
    """MediaPipe points [..., 468 or 478, 2] -> iBUG-68 [..., 68, 2]."""
    return np.asarray(landmarks)[..., MP468_TO_IBUG68, :]
