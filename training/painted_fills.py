"""The bundled painters' fills for the believability network, and how well each hit: some paint an eye, some a smear."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from idinpaint.faces.features import coverage, feature_regions, identity_visible
from idinpaint.faces.identity import arcface_crop
from idinpaint.judging.believability import middle_band
from idinpaint.painting.base import FillRequest
from idinpaint.painting.painter import fitted

PAINTERS = ("prior", "gan", "diffusion")


class Painters:
    """The bundled networks that paint, as the product calls them: with the identity and the mirrored half."""

    def __init__(self, model: str) -> None:
        from idinpaint import Restorer

        self.restorer = Restorer.from_pretrained(model, device="cpu")
        self.bundle = self.restorer.bundle

    def __call__(self, name: str, photo: np.ndarray, hole: np.ndarray, points: np.ndarray, seed: int) -> np.ndarray:
        """One fill by a painter of PAINTERS, uint8 [256, 256, 3]; photo: the true pixels; points [68, 2]."""
        return self.fill(name, self.read(photo, hole, points), seed)

    def read(self, photo: np.ndarray, hole: np.ndarray, points: np.ndarray) -> Any:
        """What `fill` needs of a face, for any number of fills."""
        known = np.where(hole[..., None], 0, photo).astype(np.uint8)
        embed = None
        if identity_visible(coverage(feature_regions(points), hole)):
            embed = self.bundle.identity.embed([arcface_crop(known, hole, points)])[0]
        labels = self.bundle.parser.predict(known, hole)  # by them hidden hair becomes the mirrored half's
        return SimpleNamespace(crop=known, crop_mask=hole, landmarks=points, labels=labels, id_embed=embed)

    def fill(self, name: str, face: Any, seed: int) -> np.ndarray:
        """One fill of a face that was read."""
        predicted = self.restorer.inpainters[name].fill(FillRequest(face, face.id_embed, 1, None, seed))[0]
        return fitted(predicted, face)


def hit(painted: np.ndarray, true: np.ndarray, by_form: bool = True) -> float:
    """How well a painted window [64, 64, 4] hit the true one, up to 1, by what lies between fine grain and shading.

    The correlation inside the hole, less where the painted one has less than three quarters of the strength. Of many
    fills looked at, eyes with a pupil lie above those with specks, lips above smears. by_form: False compares the
    strength alone, since no hair need lie where it lay.
    """
    inside = true[..., 3] > 127
    if inside.sum() < 20:
        return 1.0
    x, y = (middle_band(w)[inside] for w in (painted, true))
    strength = float(x.std() / (y.std() + 1e-3))
    if not by_form:
        return min(strength, 1 / max(strength, 1e-3))
    alike = float(((x - x.mean()) * (y - y.mean())).mean() / (x.std() * y.std() + 1e-3))
    return alike * min(1.0, 1.3 * strength)
