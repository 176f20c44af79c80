"""Face alignment: from 68 landmarks (or a detector's box) to an upright 256 px crop, and back.

All matrices are [2, 3] float64 affine maps acting on (x, y) in px; integer coordinates are pixel centres.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.imaging.compositing import scale_of
from idinpaint.types import CROP_SIZE

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

# Eye centres, nose tip and mouth corners in the 256 px FFHQ crop: means over aligned photos.
FFHQ_POINTS5 = np.array([[96.0, 120.9], [159.2, 120.9], [127.5, 156.8], [100.4, 186.2], [154.8, 186.2]])
# The same in the 112 px ArcFace template.
ARCFACE_POINTS5 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
BOX_TO_CROP = 1.58  # side of the FFHQ crop / side of a Haar face box, median over aligned photos
BOX_BELOW_CENTRE = 0.047  # the box's centre lies below the crop's centre by this share of the crop's side
# How far a crop may be off in size, angle and place to spare the photo a resampling: what the networks saw in training.
SNAP_SCALE, SNAP_DEGREES, SNAP_SHIFT = (0.95, 1.12), 3.0, 15.0  # photo px a crop px, degrees, px


def mp468_to_68(landmarks: np.ndarray) -> np.ndarray:
    """MediaPipe points [..., 468 or 478, 2] -> iBUG-68 [..., 68, 2]."""
    return np.asarray(landmarks)[..., MP468_TO_IBUG68, :]


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a [2, 3] affine map to points [..., 2]."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a [2, 3] affine map. Raises numpy.linalg.LinAlgError when it is singular."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The [2, 3] map that applies `inner` first, then `outer`."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity (no mirroring) that maps source [N, 2] onto target [N, 2], as a [2, 3] map.

    Umeyama 1991 in the closed form for the plane. Raises ValueError when all source points coincide.
    """
    src, dst = np.asarray(source, np.float64), np.asarray(target, np.float64)
    a, b = src - src.mean(0), dst - dst.mean(0)
    norm = (a**2).sum()
    if norm < 1e-12:
        raise ValueError("umeyama: the source points coincide")
    cos, sin = (a * b).sum() / norm, (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / norm
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, dst.mean(0) - linear @ src.mean(0)])


def ffhq_crop_matrix(landmarks: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """Crop px -> photo px of the FFHQ crop for landmarks [68, 2] in photo px.

    The recipe of the data set (Karras et al. 2019, section A), as a similarity.
    Raises ValueError when eyes and mouth coincide. On CelebA-HQ's own crops the map is the identity within
    0.3 % of scale, 0.1 degrees and 2 px on average, so MediaPipe's points need no correction here.
    """
    lm = np.asarray(landmarks, np.float64)
    eye_left, eye_right = lm[36:42].mean(0), lm[42:48].mean(0)
    eye_avg, eye_to_eye = (eye_left + eye_right) / 2, eye_right - eye_left
    eye_to_mouth = (lm[48] + lm[54]) / 2 - eye_avg
    x = eye_to_eye - eye_to_mouth[::-1] * [-1, 1]
    length = np.hypot(*x)
    if not length > 1e-6:
        raise ValueError("ffhq_crop_matrix: eyes and mouth coincide")
    x *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8) / length
    y = x[::-1] * [-1, 1]
    centre = eye_avg + eye_to_mouth * 0.1
    return np.column_stack([np.column_stack([x, y]) * 2 / size, centre + (1 / size - 1) * (x + y)])


def snap_to_pixels(matrix: np.ndarray, shape: tuple[int, int], size: int = CROP_SIZE) -> np.ndarray:
    """A crop -> photo map that moves px without resampling them, and stays inside the photo, where that is close by.

    matrix [2, 3]; shape (H, W) of the photo. Resampling a face of the crop's own size costs sharpness and, round
    thin strokes, known px. Returned unchanged where size, angle or place would move by more than the SNAP_ limits.
    """
    angle = np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))
    if not SNAP_SCALE[0] <= scale_of(matrix) <= SNAP_SCALE[1] or abs(angle) > SNAP_DEGREES:
        return matrix
    middle = np.full(2, (size - 1) / 2)
    corner = transform_points(matrix, middle) - middle
    room = np.array(shape[::-1]) - size
    within = np.clip(corner, np.minimum(room, 0), np.maximum(room, 0))
    corner = np.where(np.abs(within - corner) <= SNAP_SHIFT, within, corner)
    return np.column_stack([np.eye(2), np.rint(corner)])


def crop_from_points5(points5: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """Crop px -> photo px from a detector's five points [5, 2] (eyes, nose, mouth corners; image left first)."""
    return umeyama(FFHQ_POINTS5 * (size / CROP_SIZE), points5)


def crop_from_box(box: tuple[float, float, float, float], angle_deg: float = 0.0, size: int = CROP_SIZE) -> np.ndarray:
    """Crop px -> photo px, a first guess from a face box (x, y, w, h) whose face is rotated clockwise by angle_deg.

    The box is about the face: brows to chin and cheek to cheek; its centre and longer side are used.
    Raises ValueError for an empty box.
    """
    x, y, w, h = (float(v) for v in box)
    if not (w > 0 and h > 0):
        raise ValueError(f"crop_from_box: empty box {box}")
    scale = BOX_TO_CROP * max(w, h) / size
    angle = np.radians(angle_deg)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([0.5 * size - 0.5, (0.5 + BOX_BELOW_CENTRE) * size - 0.5])
    return np.column_stack([linear, np.array([x + w / 2 - 0.5, y + h / 2 - 0.5]) - linear @ middle])


def arcface_matrix(landmarks: np.ndarray, size: int = 112) -> np.ndarray:
    """Aligned px -> photo px of the ArcFace crop for landmarks [68, 2] in photo px; use it with `warp_to_crop`."""
    lm = np.asarray(landmarks, np.float64)
    points5 = np.stack([lm[36:42].mean(0), lm[42:48].mean(0), lm[30], lm[48], lm[54]])
    return invert(umeyama(points5, ARCFACE_POINTS5 * (size / 112)))


def warp_to_crop(
    rgb: np.ndarray, mask: np.ndarray | None, crop_to_photo: np.ndarray, size: int = CROP_SIZE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a crop out of a photo without letting hole pixels bleed into known ones.

    rgb [H, W, 3] uint8; mask [H, W] bool (True = hole) or None; crop_to_photo [2, 3].
    Returns crop [size, size, 3] uint8, zero in the hole, a weighted mean of known pixels elsewhere; crop_mask
    [size, size] bool, True where less than half is known or the photo ends; outside [size, size] bool, the part of
    crop_mask that lies outside of the photo. Shrinking is antialiased: area averages first, then two samples a pixel.
    """
    corners = transform_points(crop_to_photo, np.array([[-1, -1], [size, -1], [size, size], [-1, size]]))
    height, width = rgb.shape[:2]
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 3, (width, height))
    if x1 <= x0 or y1 <= y0:
        full = np.ones((size, size), bool)
        return np.zeros((size, size, 3), np.uint8), full, full.copy()
    part = rgb[y0:y1, x0:x1].copy()
    hole = np.zeros(part.shape[:2], np.float32) if mask is None else mask[y0:y1, x0:x1].astype(np.float32)
    part[hole > 0] = 0
    matrix = crop_to_photo.copy()
    matrix[:, 2] -= (x0, y0)
    factor = int(scale_of(matrix))  # photo px a crop px
    if factor > 1:
        part, hole, matrix = _shrink(part, hole, matrix, factor)
    oversample = 2 if scale_of(matrix) > 1.15 else 1
    values, hole, inside = _sample(part, hole, matrix, size, oversample)
    outside = inside < 1 - 1e-3
    crop_mask = outside | (hole > 0.5)
    values /= np.maximum(1 - hole, 0.5)[..., None]  # hole px are zero in `part`: the mean of the known px
    values[crop_mask] = 0
    return np.clip(np.rint(values), 0, 255).astype(np.uint8), crop_mask, outside


def warp_share(mask: np.ndarray, crop_to_photo: np.ndarray, size: int = CROP_SIZE) -> np.ndarray:
    """Share of hole in each crop px, [size, size] float32 in [0, 1], from a mask [H, W] bool; 0 beyond the photo."""
    hole, matrix = mask.astype(np.float32), crop_to_photo
    factor = int(scale_of(matrix))
    if factor > 1:
        hole, _, matrix = _shrink(hole, hole, matrix, factor)
    return _sample(hole, hole, matrix, size, 2)[0]


def shrink_photo(rgb: np.ndarray, mask: np.ndarray, max_side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A copy of at most max_side px: rgb uint8 (zero in the hole), mask bool, and its [2, 3] map to photo px."""
    part = rgb.copy()
    part[mask] = 0
    factor = -(-max(rgb.shape[:2]) // max_side)
    if factor <= 1:
        return part, mask.copy(), np.array([[1.0, 0, 0], [0, 1.0, 0]])
    small, hole, to_small = _shrink(part, mask.astype(np.float32), np.array([[1.0, 0, 0], [0, 1.0, 0]]), factor)
    # Part-hole px keep the mean of their known part.
    small = small / np.maximum(1 - hole, 1e-3)[..., None]
    small[hole > 0.999] = 0
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), hole > 0.5, invert(to_small)


def _shrink(
    part: np.ndarray, hole: np.ndarray, matrix: np.ndarray, factor: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shrink picture and hole by an integer factor with area averages; returns them and the map to their px."""
    height, width = part.shape[:2]
    pad = ((0, -height % factor), (0, -width % factor))
    part = np.pad(part, (*pad, (0, 0))[: part.ndim], mode="edge")
    hole = np.pad(hole, pad, mode="edge")
    new_size = (part.shape[1] // factor, part.shape[0] // factor)
    to_small = np.array([[1 / factor, 0, (1 / factor - 1) / 2], [0, 1 / factor, (1 / factor - 1) / 2]])
    part = cv2.resize(part, new_size, interpolation=cv2.INTER_AREA)
    return part, cv2.resize(hole, new_size, interpolation=cv2.INTER_AREA), compose(to_small, matrix)


def _sample(
    part: np.ndarray, hole: np.ndarray, matrix: np.ndarray, size: int, oversample: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bilinear samples at crop px: values [size, size, 3], share of hole and share of photo [size, size], float32."""
    fine = np.array([[1 / oversample, 0, (1 / oversample - 1) / 2], [0, 1 / oversample, (1 / oversample - 1) / 2]])
    matrix, dsize = compose(matrix, fine), (size * oversample, size * oversample)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    stack = [part.astype(np.float32), hole, np.ones_like(hole)]
    warped = [cv2.warpAffine(a, matrix, dsize, flags=flags, borderMode=cv2.BORDER_CONSTANT) for a in stack]
    if oversample > 1:
        warped = [cv2.resize(a, (size, size), interpolation=cv2.INTER_AREA) for a in warped]
    return warped[0], warped[1], warped[2]
