"""Telea's fast marching (2004): for scratches and for the background. Invents nothing."""

from __future__ import annotations

import numpy as np

from idinpaint.imaging.compositing import coarse_fill
from idinpaint.painting.base import FillRequest


class TeleaInpainter:
    """Deterministic: every sample is the same, so one is returned."""

    name = "telea"

    def fill(self, request: FillRequest) -> list[np.ndarray]:
        """See Inpainter."""
        return [coarse_fill(request.face.crop, request.face.crop_mask)]
