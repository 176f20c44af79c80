"""Holes filled from their surroundings (Telea 2004): the strategy `telea`, and what every other one starts from.

Images are uint8 RGB [H, W, 3], masks bool [H, W] with True = hole; no pixel under the mask is read.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.imaging.compositing import check_pair, harmonize

TELEA_RADIUS = 3  # px
DEEP_HOLE = 64  # px to the nearest known pixel; deeper holes are filled at a reduced scale
CLUSTER_CELL = 32  # px, grid on which nearby holes are joined into one bounding box
MARGIN = 16  # px of known surroundings kept around a bounding box


def hole_boxes(mask: np.ndarray, cell: int = CLUSTER_CELL) -> list[tuple[slice, slice, np.ndarray]]:
    """Groups the holes into clusters and returns (rows, columns, member) for each.

    rows, columns: slices of the cluster's bounding box; member: bool over that box, the holes that belong
    to it. Holes in touching grid cells share a cluster, so noise-like masks give few boxes, not thousands.
    """
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % cell), (0, -width % cell)))
    grid = padded.reshape(padded.shape[0] // cell, cell, -1, cell).any(axis=(1, 3))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(grid.astype(np.uint8), connectivity=8)
    boxes = []
    for label in range(1, count):
        x, y, w, h = stats[label, :4]
        cells = labels[y : y + h, x : x + w] == label
        rows = slice(y * cell, min((y + h) * cell, height))
        columns = slice(x * cell, min((x + w) * cell, width))
        member = np.repeat(np.repeat(cells, cell, axis=0), cell, axis=1)
        member = member[: rows.stop - rows.start, : columns.stop - columns.start] & mask[rows, columns]
        boxes.append((rows, columns, member))
    return boxes


def coarse_fill(rgb: np.ndarray, mask: np.ndarray, max_side: int | None = None) -> np.ndarray:
    """Fills the hole from its surroundings (Telea 2004) and returns a new uint8 [H, W, 3].

    Works on the bounding boxes of the holes; holes deeper than DEEP_HOLE, and boxes with a side above
    `max_side` px, are filled at a reduced scale. A photo without any known pixel is filled with mid grey.
    """
    check_pair(rgb, mask)
    filled = rgb.copy()
    filled[mask] = 0
    if mask.all():
        filled[:] = 128
        return filled
    for rows, columns, member in hole_boxes(mask):
        box = _with_known(mask, rows, columns)
        patch, hole = np.ascontiguousarray(filled[box]), np.ascontiguousarray(mask[box])
        patch[hole] = 0  # an earlier box may have filled a part of it
        result = _fill_patch(patch, hole, max_side)
        top, left = rows.start - box[0].start, columns.start - box[1].start
        inner = result[top : top + member.shape[0], left : left + member.shape[1]]
        target = filled[rows, columns]
        target[member] = inner[member]
    return filled


def _with_known(mask: np.ndarray, rows: slice, columns: slice) -> tuple[slice, slice]:
    """Grows the box by MARGIN, and further until it holds a known pixel (one exists somewhere)."""
    margin = MARGIN
    while True:
        box = (
            slice(max(0, rows.start - margin), min(mask.shape[0], rows.stop + margin)),
            slice(max(0, columns.start - margin), min(mask.shape[1], columns.stop + margin)),
        )
        if not mask[box].all():
            return box
        margin *= 2


def _fill_patch(patch: np.ndarray, hole: np.ndarray, max_side: int | None) -> np.ndarray:
    """Telea on one box, hole already zeroed; at a reduced scale where the hole is deep. uint8 in and out."""
    hole8 = hole.astype(np.uint8)
    depth = float(cv2.distanceTransform(np.pad(hole8, 1, mode="edge"), cv2.DIST_L2, 3).max())
    scale = min(1.0, DEEP_HOLE / (2 * depth) if depth > DEEP_HOLE else 1.0)
    if max_side:
        scale = min(scale, max_side / max(hole.shape))
    if scale == 1.0:
        return telea(patch, hole8)
    height, width = hole.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small, weight = shrink_known(patch, hole, size)
    small_hole = weight < 0.5 if (weight >= 0.5).any() else weight <= 0
    small[small_hole] = 0
    small = telea(small, small_hole.astype(np.uint8))
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    # Where the hole is shallow the full scale is sharper: Telea again on that band, from both sides.
    band = hole & (cv2.distanceTransform(hole8, cv2.DIST_L2, 3) <= MARGIN / 2)
    large = harmonize(large, patch, hole, falloff_px=depth)
    return telea(large, band.astype(np.uint8))


def telea(patch: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """cv2's Telea on uint8 [h, w, 3] and uint8 [h, w] (1 = hole), whose hole pixels it does read: zero them.

    Padded, because cv2 reads past the border of pictures that are one pixel wide.
    """
    pad = (4, 4, 4, 4)
    patch, hole = (cv2.copyMakeBorder(a, *pad, cv2.BORDER_REPLICATE) for a in (patch, hole))
    return cv2.inpaint(patch, hole, TELEA_RADIUS, cv2.INPAINT_TELEA)[4:-4, 4:-4]


def shrink_known(rgb: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Area-averages the known pixels only, so that the hole never bleeds into its surroundings.

    size: (width, height) px, at most that of rgb. Returns (uint8 [h, w, 3], known share float32 [h, w]).
    """
    known = (~mask).astype(np.float32)
    weight = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    planes = [cv2.resize(rgb[..., c] * known, size, interpolation=cv2.INTER_AREA) for c in range(3)]
    small = np.stack(planes, axis=-1) / np.maximum(weight, 1e-6)[..., None]
    return np.clip(np.rint(small), 0, 255).astype(np.uint8), weight
