"""Whether the damage goes on beyond the mask's rim: measured from known pixels only, and the mask grown by it."""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.types import InputError

REACH = 8  # px, the farthest rim that is looked for
FAR = (9, 14)  # px from the mask: what the undamaged surroundings look like
FAR_BLUR = 6.0  # px
LEAST_SIDE = 160  # px, a photo's shorter side: in a smaller one the picture itself changes within FAR
START = 6.0  # levels: the first ring must differ by this much
STAY = 2.0  # levels: rings are taken while they differ by more
AGREE = 0.85  # share of the first ring that differs in the same direction; the other rings: STAY_AGREE
STAY_AGREE = 0.6


def measured_rim(rgb: np.ndarray, mask: np.ndarray) -> int:
    """px by which the damage goes on outside the mask, 0 to REACH. rgb: uint8 [H, W, 3]; mask: bool [H, W].

    A soft rim makes the pixels beside the mask lighter (or darker) than those farther out all along it; edges of
    the picture do so on one side only, here and there. Pixels under the mask are not read.
    """
    if min(mask.shape) < LEAST_SIDE:
        return 0
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    far = ((distance >= FAR[0]) & (distance <= FAR[1])).astype(np.float32)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    weight = cv2.GaussianBlur(far, (0, 0), FAR_BLUR)
    surroundings = cv2.GaussianBlur(grey * far, (0, 0), FAR_BLUR) / np.maximum(weight, 1e-6)
    usable = ~mask & (weight > 1e-3)
    rim, direction = 0, 0.0
    for step in range(1, REACH + 1):
        ring = usable & (distance > step - 0.5) & (distance <= step + 0.5)
        if np.count_nonzero(ring) < 16:
            break
        difference = (grey - surroundings)[ring]
        middle = float(np.median(difference))
        if step == 1:
            direction = float(np.sign(middle))
            if abs(middle) < START or np.mean(difference * direction > 0) < AGREE:
                break
        elif middle * direction < STAY or np.mean(difference * direction > 0) < STAY_AGREE:
            break
        rim = step
    return rim if rim < REACH else 0  # not falling off: a brighter object round the hole, no rim


def grow_mask(mask: np.ndarray, px: int) -> np.ndarray:
    """The mask with all that lies within px of it. bool [H, W] in and out."""
    if px <= 0:
        return mask
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= px + 0.5


def fit_mask(rgb: np.ndarray, mask: np.ndarray, grow: int | str | None) -> tuple[np.ndarray, list[str]]:
    """(the mask to use, notices). grow: px, `auto` (as measured_rim says), or None: measured and said, not grown.

    rgb: uint8 [H, W, 3]; mask: bool [H, W]. InputError when nothing known would be left.
    """
    measured = measured_rim(rgb, mask) if grow in (None, "auto") else 0
    if grow is None:
        if not measured:
            return mask, []
        said = f"the damage seems to go on about {measured} px beyond the mask; --grow auto (or --grow {measured})"
        return mask, [f"{said} restores that too"]
    px = measured if grow == "auto" else int(grow)
    if not px:
        said = "--grow auto: no damage was measured beyond the mask; it is used as it is"
        return mask, [said] if grow == "auto" else []
    grown = grow_mask(mask, px)
    if grown.all():
        raise InputError(f"--grow {px}: the mask would cover the whole photo, nothing is known; use fewer px")
    why = "the damage was measured to go on so far" if grow == "auto" else "as asked for"
    shares = f"from {100 * mask.mean():.2f} to {100 * grown.mean():.2f} % of the photo"
    return grown, [f"the mask was grown by {px} px ({why}), {shares}"]
