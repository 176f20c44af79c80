"""Tone match, crop paste-back, marked holes: the only place where known pixels are kept.

Each function returns an image that equals its input bit for bit outside the mask, and none reads a
pixel under the mask. Images are uint8 RGB [H, W, 3], masks bool [H, W] with True = hole; a crop pixel's
centre has integer coordinates (the convention of cv2.warpAffine).
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.imaging.acutance import crisper, lost

RING_BLUR = 2.0  # px, smoothing of the tone difference along the ring
TONE_GRID = 1024  # px, the tone match of a larger image is computed on a grid of this side
FEATHER = 12.0  # crop px over which a pasted crop fades out towards its own border


def check_pair(image: np.ndarray, mask: np.ndarray) -> None:
    """Raises ValueError unless image is uint8 [H, W, 3] and mask is bool [H, W] of the same size."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
    if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise ValueError(f"mask must be bool {image.shape[:2]}, got {mask.dtype} {mask.shape}")


def composite(predicted: np.ndarray, known: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`predicted` inside the mask, `known` outside it; both uint8 [H, W, 3]."""
    check_pair(known, mask)
    check_pair(predicted, mask)
    return np.where(mask[..., None], predicted, known)


def nearest_known(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of values [H, W] of any type in which each masked value is that of the nearest known pixel.

    mask: bool [H, W], True where a value is not to be read; at least one pixel is known.
    """
    filled = values.copy()
    if not mask.any():
        return filled
    _, labels = cv2.distanceTransformWithLabels(mask.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    known = np.zeros(labels.max() + 1, values.dtype)
    known[labels[~mask]] = values[~mask]
    filled[mask] = known[labels[mask]]
    return filled


def known_ring(mask: np.ndarray, ring_px: int) -> np.ndarray:
    """Known pixels within `ring_px` of the hole, bool [H, W]."""
    size = 2 * ring_px + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool) & ~mask


def harmonize(
    predicted: np.ndarray, known: np.ndarray, mask: np.ndarray, ring_px: int = 3, falloff_px: float = 32.0
) -> np.ndarray:
    """Matches the tone of `predicted` to its known surroundings, then composites. Returns uint8 [H, W, 3].

    predicted: uint8, or float in [0, 255], [H, W, 3]; it must be plausible on the ring of known pixels too,
    where it is compared with `known`. The difference on that ring (ring_px wide) is interpolated smoothly
    into the hole and fades by exp(-distance / falloff_px), distances in px.
    """
    check_pair(known, mask)
    if predicted.shape != known.shape:
        raise ValueError(f"predicted is {predicted.shape}, known is {known.shape}")
    if not mask.any():
        return known.copy()
    correction = _tone_correction(predicted, known, mask, ring_px, falloff_px)
    # Only hole pixels are computed: a hole is usually a small part of the photo.
    toned = predicted[mask].astype(np.float32)
    if correction is not None:
        toned += correction[mask]
    result = known.copy()
    result[mask] = np.clip(np.rint(toned), 0, 255).astype(np.uint8)
    return result


def _tone_correction(
    predicted: np.ndarray, known: np.ndarray, mask: np.ndarray, ring_px: int, falloff_px: float
) -> np.ndarray | None:
    """The smooth float32 [H, W, 3] to add to `predicted`, or None when no known pixel touches the hole."""
    ring = known_ring(mask, ring_px)
    if not ring.any():
        return None
    height, width = mask.shape
    difference = np.zeros((height, width, 4), np.float32)  # RGB difference, weight
    difference[ring, :3] = known[ring].astype(np.float32) - predicted[ring].astype(np.float32)
    difference[ring, 3] = 1.0
    scale = min(1.0, TONE_GRID / max(height, width))
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        difference = cv2.resize(difference, size, interpolation=cv2.INTER_AREA)
    difference = cv2.GaussianBlur(difference, (0, 0), RING_BLUR, borderType=cv2.BORDER_CONSTANT)
    smooth = pull_push(difference)
    if scale < 1.0:
        smooth = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    smooth *= np.exp(-distance / max(falloff_px, 1e-3))[..., None]
    return smooth


def pull_push(weighted: np.ndarray) -> np.ndarray:
    """Interpolates scattered samples (Gortler et al. 1996). [h, w, 4] float32 of (value x weight, weight)
    -> [h, w, 3] float32 values everywhere; zeros when no sample has any weight."""
    height, width = weighted.shape[:2]
    weight = weighted[..., 3:]
    value = weighted[..., :3] / np.maximum(weight, 1e-8)
    if max(height, width) == 1:
        return value
    size = ((width + 1) // 2, (height + 1) // 2)
    coarse = pull_push(cv2.resize(weighted, size, interpolation=cv2.INTER_AREA) * np.float32(4.0))
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
    trust = np.minimum(weight, 1.0)
    return value * trust + coarse * (1.0 - trust)


def paste_crop(
    photo_rgb: np.ndarray, mask: np.ndarray, crop: np.ndarray, crop_to_photo: np.ndarray, feather: float = FEATHER
) -> np.ndarray:
    """Warps a face crop to the photo's own resolution and replaces hole pixels with it.

    photo_rgb: uint8 [H, W, 3], its hole filled by something already; crop: uint8 [S, S, 3];
    crop_to_photo: [2, 3] affine, crop px -> photo px; feather: crop px over which the crop fades into
    what photo_rgb holds, inside the hole, towards those sides of the crop beyond which the photo goes on.
    Returns a new uint8 [H, W, 3].
    """
    check_pair(photo_rgb, mask)
    result = photo_rgb.copy()
    side_y, side_x = crop.shape[:2]
    matrix = np.asarray(crop_to_photo, np.float64)
    corners = np.array([[0, 0, 1], [side_x - 1, 0, 1], [0, side_y - 1, 1], [side_x - 1, side_y - 1, 1]]) @ matrix.T
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, [mask.shape[1], mask.shape[0]])
    if (high <= low).any():
        return result
    hole = mask[low[1] : high[1], low[0] : high[0]]
    if not hole.any():
        return result
    shift = matrix.copy()
    shift[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    wanted = lost(result[low[1] : high[1], low[0] : high[0]], hole, scale_of(shift))
    if wanted > 1.0:
        back = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        inside = cv2.warpAffine(hole.astype(np.uint8), shift, (side_x, side_y), flags=back).astype(bool)
        crop = crisper(crop, inside, wanted)
    warped = _warp(crop, shift, size)
    ys, xs = np.nonzero(hole)
    to_crop = cv2.invertAffineTransform(shift)
    u, v = to_crop @ np.stack([xs, ys, np.ones_like(xs)]).astype(np.float64)
    height, width = mask.shape
    edges = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], np.float64)
    edges = edges @ cv2.invertAffineTransform(matrix).T  # the photo's corners in crop px
    border = np.full(len(xs), np.inf)
    for inward, photo, side in ((u, edges[:, 0], side_x), (v, edges[:, 1], side_y)):
        if photo.min() < -1:
            border = np.minimum(border, inward + 0.5)
        if photo.max() > side:
            border = np.minimum(border, side - 0.5 - inward)
    weight = np.clip(border / max(feather, 1e-3), 0.0, 1.0).astype(np.float32)
    weight = (weight * weight * (3.0 - 2.0 * weight))[:, None]
    target = result[low[1] : high[1], low[0] : high[0]]
    blended = target[ys, xs] * (1.0 - weight) + warped[ys, xs] * weight
    target[ys, xs] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    return result


def scale_of(matrix: np.ndarray) -> float:
    """Enlargement of a [2, 3] similarity map (output px an input px)."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def _warp(crop: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """warpAffine of uint8 [S, S, 3] to (width, height): cubic to enlarge, low-passed first to shrink."""
    scale = scale_of(matrix)
    interpolation = cv2.INTER_CUBIC
    if scale < 1.0:
        sigma = 0.5 * float(np.sqrt(1.0 / (scale * scale) - 1.0))
        if sigma > 0.1:
            crop = cv2.GaussianBlur(crop, (0, 0), sigma)
        interpolation = cv2.INTER_LINEAR
    return cv2.warpAffine(crop, matrix, size, flags=interpolation, borderMode=cv2.BORDER_REPLICATE)


def mark_hole(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The abstained result: the known part kept, the hole a neutral grey with diagonal hatching. A new uint8."""
    check_pair(rgb, mask)
    result = rgb.copy()
    period = max(8, round(max(mask.shape) / 64))  # px, so that the hatch shows at any size
    ys, xs = np.nonzero(mask)
    stripe = (xs + ys) % period < max(2, period // 5)
    result[ys, xs] = np.where(stripe, 88, 128).astype(np.uint8)[:, None]
    return result
