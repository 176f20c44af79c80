"""Fills that are no feature: what the believability network learns to refuse; and faces with holes to fill.

All take uint8 [256, 256, 3] photos and bool [256, 256] holes and return a new photo; known pixels are left alone.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.data.photos import load_photos
from idinpaint.faces.alignment import umeyama
from idinpaint.imaging.compositing import harmonize
from idinpaint.imaging.telea import coarse_fill

KINDS = ("telea", "blur", "mean", "smear", "coarse", "grain", "shifted", "doubled", "half", "wrong")


def put(photo: np.ndarray, hole: np.ndarray, fill: np.ndarray, soft: float = 0.0) -> np.ndarray:
    """The fill inside the hole, fading over `soft` px at its edge."""
    if soft <= 0:
        return np.where(hole[..., None], fill, photo).astype(np.uint8)
    share = np.clip(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3) / soft, 0, 1)[..., None]
    return np.rint(photo * (1 - share) + fill * share).astype(np.uint8)


def telea(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Telea's fill of the known pixels."""
    return coarse_fill(np.where(hole[..., None], 0, photo).astype(np.uint8), hole)


def moved(photo: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The photo moved by px, its edge repeated."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], float)
    return cv2.warpAffine(photo, matrix, (256, 256), borderMode=cv2.BORDER_REFLECT)


def bad_fill(kind: str, photo: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of KINDS: Telea, blur, mean colour, a smear along a direction, far too coarse, Telea with grain, a feature
    that is shifted, doubled, half erased or another one."""
    soft = float(rng.choice([0.0, 3.0, 6.0]))
    if kind == "telea":
        return telea(photo, hole)
    if kind == "blur":
        return put(photo, hole, cv2.GaussianBlur(photo, (0, 0), rng.uniform(4.5, 16)), soft)
    if kind == "mean":
        ring = cv2.dilate(hole.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~hole
        colour = photo[ring].mean(0) if ring.any() else np.full(3, 128.0)
        return put(photo, hole, np.broadcast_to(colour, photo.shape), soft)
    if kind == "smear":
        length, angle = int(rng.integers(21, 61)), rng.uniform(0, 180)
        turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), angle, 1.0)
        line = np.zeros((length, length), np.float32)
        line[length // 2] = 1
        kernel = cv2.warpAffine(line, turn, (length, length))
        source = photo if rng.random() < 0.5 else telea(photo, hole)
        return put(photo, hole, cv2.filter2D(source, -1, kernel / max(kernel.sum(), 1e-6)), soft)
    if kind == "coarse":
        side = int(rng.integers(14, 30))
        small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
        fill = cv2.resize(small, (256, 256), interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])))
        noise = rng.normal(0, rng.choice([0, 3, 6]), photo.shape)
        return put(photo, hole, np.clip(fill + noise, 0, 255), soft)
    if kind == "grain":
        noise = rng.normal(0, rng.uniform(3, 12), photo.shape)
        noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.4, 2.0)) * 2
        return put(photo, hole, np.clip(telea(photo, hole) + noise, 0, 255))
    size = rng.uniform(16, 34)
    angle = rng.uniform(0, 2 * np.pi)
    other = moved(photo, size * np.cos(angle), size * np.sin(angle))
    if kind == "shifted":
        return harmonize(put(photo, hole, other), photo, hole)
    if kind == "doubled":
        share = rng.uniform(0.35, 0.65)
        return put(
            photo, hole, photo * share + moved(photo, *(rng.choice([-1, 1], 2) * rng.uniform(6, 14, 2))) * (1 - share)
        )
    if kind == "half":
        ys, xs = np.mgrid[:256, :256]
        inside = np.nonzero(hole)
        way = (xs - inside[1].mean()) * np.cos(angle) + (ys - inside[0].mean()) * np.sin(angle)
        keep = np.clip(0.5 + way / rng.uniform(8, 30), 0, 1)[..., None]
        return put(photo, hole, photo * keep + telea(photo, hole) * (1 - keep))
    return harmonize(put(photo, hole, photo[::-1] if rng.random() < 0.5 else moved(photo, 0, 60)), photo, hole)


def feature_hole(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [256, 256]: an ellipse, box or stroke over one to three features, or a half of the face; points [68, 2]."""
    groups = (range(36, 42), range(42, 48), range(17, 22), range(22, 27), range(27, 36), range(48, 60))
    hole = np.zeros((256, 256), np.uint8)
    draw = rng.random()
    if draw < 0.08:  # the lower half of the face
        line = points[30, 1] + rng.normal(0, 5)
        cv2.fillConvexPoly(hole, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
        hole[: int(max(line, 0))] = 0
    elif draw < 0.2:  # hair and forehead
        middle = points[17:27].mean(0) + [rng.normal(0, 50), -rng.uniform(30, 80)]
        axes = tuple(int(v) for v in rng.uniform(25, 60, 2))
        cv2.ellipse(hole, tuple(np.rint(middle).astype(int).tolist()), axes, 0, 0, 360, 1, -1)
    else:
        for which in rng.choice(6, rng.choice([1, 2, 3], p=(0.6, 0.25, 0.15)), replace=False):
            part = points[list(groups[which])]
            middle, half = (
                (part.min(0) + part.max(0)) / 2,
                np.ptp(part, 0) / 2 * rng.uniform(1.0, 1.7, 2) + rng.uniform(4, 12, 2),
            )
            middle = np.rint(middle + rng.normal(0, 3, 2)).astype(int)
            if rng.random() < 0.6:
                cv2.ellipse(
                    hole, tuple(middle.tolist()), tuple(half.astype(int).tolist()), rng.uniform(-20, 20), 0, 360, 1, -1
                )
            else:
                low, high = np.rint(middle - half).astype(int), np.rint(middle + half).astype(int)
                cv2.rectangle(hole, tuple(low.tolist()), tuple(high.tolist()), 1, -1)
    return hole.astype(bool)


class Faces:
    """Photos of 256 px with landmarks; draws one face with a hole, real or filled badly."""

    def __init__(self, entries: list, marks: dict[str, np.ndarray], count: int, rng: np.random.Generator) -> None:
        entries = [e for e in entries if e.key in marks]
        kept = [entries[i] for i in rng.permutation(len(entries))[:count]]
        self.photos, self.points = load_photos(kept), [marks[e.key] for e in kept]

    def hidden(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(photo, hole, landmarks)."""
        photo, points = degrade(self.photos[index], rng), self.points[index]
        while not (hole := feature_hole(points, rng)).any():
            pass
        return photo, hole, points

    def draw(self, index: int, real: bool, rng: np.random.Generator, leave_out: str = "") -> tuple:
        """(painted crop, its hole, landmarks, kind of fill)."""
        photo, hole, points = self.hidden(index, rng)
        if real:
            if rng.random() < 0.15:  # another person's features, well fitted: believable, though not a likeness
                return self.transplant(photo, points, hole, rng), hole, points, "transplant"
            return photo, hole, points, "real"
        kinds = [kind for kind in KINDS if kind != leave_out]
        kind = kinds[rng.integers(len(kinds))]
        return bad_fill(kind, photo, hole, rng), hole, points, kind

    def transplant(
        self, photo: np.ndarray, points: np.ndarray, hole: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The hole filled from another photo whose landmarks were laid over these."""
        other = min(rng.integers(len(self.points), size=12), key=lambda i: misfit(self.points[i], points))
        matrix = umeyama(self.points[other], points)
        laid = cv2.warpAffine(self.photos[other], matrix, (256, 256), borderMode=cv2.BORDER_REFLECT)
        return harmonize(np.where(hole[..., None], laid, photo).astype(np.uint8), photo, hole)


def misfit(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of two faces' landmarks [68, 2] once one is laid over the other."""
    matrix = umeyama(a, b)
    return float(np.linalg.norm(a @ matrix[:, :2].T + matrix[:, 2] - b, axis=1).mean())


def degrade(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What old photos are like: a little blur, grain, grey or JPEG, each at times."""
    out = photo
    if rng.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.2:
        out = np.repeat(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if rng.random() < 0.3:
        out = np.clip(out + rng.normal(0, rng.uniform(2, 12), out.shape[:2])[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        coded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))])[1]
        out = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return out
