"""Finding damage: the network over a photo of any size, in overlapping tiles, at its own and at a reduced scale."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from idinpaint.types import InputError

WEIGHTS = "damage.safetensors"
TILE = 512  # px
MARGIN = 64  # px of a tile that only its neighbour may answer for
STRIDE = 32  # px; a tile's sides are multiples of it
SCALES = (None, 1024)  # the photo's own, and its longer side reduced to so many px
WHOLE, WIDE = 256, 7  # px: the photo as a whole, where only what is so wide counts: corners, stains, broad strokes
FEWEST = 3  # px of a spot
UNSURE = 0.2  # of the way from certainty to the threshold: a place must be likelier than that somewhere
CERTAIN = 65_535  # the likelihood of what is certain; 8 bits are too coarse near the threshold
NEAR = 2  # px; what is likely enough and touches what is certain belongs to it


def tile_starts(length: int) -> list[int]:
    """Where the tiles begin along a side of `length` px, a multiple of STRIDE."""
    if length <= TILE:
        return [0]
    starts = list(range(0, length - TILE, TILE - 2 * MARGIN))
    return [*starts, length - TILE]


class DamageFinder:
    """The bundled network behind `find`. threshold: share from which a pixel is damage, in (0, 1)."""

    def __init__(self, net: Any, threshold: float, device: str = "cpu") -> None:
        self.net, self.threshold, self.device = net.eval().to(device), threshold, device

    def likelihood(self, rgb: np.ndarray) -> np.ndarray:
        """How likely each pixel is damage: uint8 [H, W, 3] -> uint16 [H, W], up to CERTAIN."""
        height, width = rgb.shape[:2]
        likely = np.zeros((height, width), np.uint16)
        for longest in (*SCALES, WHOLE):
            if longest is None:
                found = self._in_tiles(rgb)
            elif max(height, width) > longest:
                scale = longest / max(height, width)
                size = (max(1, round(width * scale)), max(1, round(height * scale)))
                found = self._in_tiles(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
                found = _wide(found) if longest == WHOLE else found
                found = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
            else:
                continue
            np.maximum(likely, found, out=likely)
        return likely

    def _in_tiles(self, rgb: np.ndarray) -> np.ndarray:
        """As `likelihood`, at the scale of rgb only. Each tile's border is answered for by its neighbour."""
        import torch

        from idinpaint.models.tensors import to_tensor

        height, width = rgb.shape[:2]
        padding = [(0, -height % STRIDE), (0, -width % STRIDE), (0, 0)]
        padded = np.pad(rgb, padding, mode="symmetric")
        found = np.zeros(padded.shape[:2], np.uint16)
        for y in tile_starts(padded.shape[0]):
            for x in tile_starts(padded.shape[1]):
                tile = to_tensor(padded[None, y : y + TILE, x : x + TILE]).to(self.device)
                with torch.inference_mode():
                    share = torch.sigmoid(self.net(tile).float())[0, 0]
                values = (share * CERTAIN).round().cpu().numpy().astype(np.uint16)
                top, left = (MARGIN if y else 0), (MARGIN if x else 0)
                found[y + top : y + TILE, x + left : x + TILE] = values[top:, left:]
        return found[:height, :width]

    def find(self, rgb: np.ndarray) -> np.ndarray:
        """The damage of a photo uint8 [H, W, 3] as a mask bool [H, W]; empty when there is none."""
        return spots(self.likelihood(rgb), self.threshold)


def _wide(found: np.ndarray) -> np.ndarray:
    """uint16 [h, w]: what is at least WIDE px wide, with its outline; the opening alone would leave squares."""
    square = np.ones((WIDE, WIDE), np.uint8)
    return np.minimum(found, cv2.dilate(cv2.morphologyEx(found, cv2.MORPH_OPEN, square), square))


def spots(likely: np.ndarray, threshold: float) -> np.ndarray:
    """uint16 [H, W] -> bool [H, W]: the places that reach the threshold and are nearly certain somewhere, with their
    less likely rim; single pixels are left out."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (likely >= CERTAIN * threshold).astype(np.uint8), connectivity=8
    )
    certain = np.zeros(count, bool)
    certain[labels[likely >= CERTAIN * (1 - UNSURE * (1 - threshold))]] = True
    certain &= stats[:, cv2.CC_STAT_AREA] >= FEWEST
    certain[0] = False
    sure = certain[labels]
    rim = likely >= CERTAIN * threshold / 2
    near = cv2.dilate(sure.astype(np.uint8), np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)).astype(bool)
    return sure | (rim & near)


def load_finder(model: str = "default", device: Any = "auto") -> DamageFinder:
    """The finder of a model folder, or the bundled one where the folder has none. Raises InputError for a damaged
    file or a device that is not there."""
    from idinpaint.loading.bundle import resolve_model
    from idinpaint.models.damage_net import DamageNet
    from idinpaint.models.devices import pick_device
    from idinpaint.models.weights import WeightStore, first_line

    store, _ = resolve_model(model)
    store = store if WEIGHTS in store.manifest else WeightStore()
    config, state = store.load(WEIGHTS)
    try:
        threshold = float(config.pop("threshold"))
        net = DamageNet(**config)
        net.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{store.folder / WEIGHTS}: is not a DamageNet ({first_line(error)})") from error
    return DamageFinder(net, threshold, pick_device(device))
