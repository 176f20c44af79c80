"""Is there an eye now where one was hidden? Judged by what the painted picture shows, not by whom it is like.

For every feature that was hidden, one number in [0, 1]: a logistic model (fitted by training/train_believability.py on
validation people) of what a small network makes of its window, the landmark network's confidence and agreement on the
output, the parser's class there, gradient energy and grain against the known surroundings, and for an eye how much it
is like its visible twin, mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from idinpaint.faces.features import WHOLE
from idinpaint.faces.parsing import PARSING_CLASSES
from idinpaint.judging.ranking import seam_ratio
from idinpaint.models.tensors import to_tensor
from idinpaint.types import FaceAnalysis

FILE = "believability.safetensors"
WINDOW = 64  # px, side of what the network sees
JUDGED = 0.25  # of a feature under the mask from which it is judged
HAIR_PX = 400  # of hidden hair in the crop, from which it is judged
TORN_HAIR = 600  # from which it is painted, though no feature be hidden
# Feature -> its landmarks and the side of its window in distances between the eye centres. Hair has no landmarks.
WINDOWS: dict[str, tuple[range, float]] = {
    "left_eye": (range(36, 42), 0.9),
    "right_eye": (range(42, 48), 0.9),
    "left_brow": (range(17, 22), 1.0),
    "right_brow": (range(22, 27), 1.0),
    "nose": (range(27, 36), 1.15),
    "mouth": (range(48, 60), 1.3),
    "hair": (range(0), 1.2),
}
KINDS = tuple(WINDOWS)
SIGNS = ("network", "confidence", "shift", "parsed", "gradient", "grain", "twin")
TWINS = {"left_eye": "right_eye", "right_eye": "left_eye"}
MIRRORED = {**TWINS, "left_brow": "right_brow", "right_brow": "left_brow"}
NO_TWIN = 0.7  # its sign where there is none to see: the median of true eyes
REACH = 4  # px of a window by which a twin may lie elsewhere
RIM = 4.0  # step across the hole's edge over that of its surroundings; 99 % of untouched photos lie below 2
WORDS = {"hair": "hair", "rim": "edge of the hole"}


@dataclass(frozen=True)
class Believability:
    """features: hidden feature (or hair, rim) -> number in [0, 1]; failed: those below their limit; worst: the least
    of the numbers over their limits, 1 and more being believable, None where nothing that counts was hidden; shift:
    mean distance of the landmarks read on the output from those predicted before, % of the outer eye distance;
    twin_colour, twin_likeness: of hidden eyes or None."""

    features: dict[str, float]
    failed: list[str]
    worst: float | None
    shift: float | None = None
    twin_colour: float | None = None
    twin_likeness: float | None = None

    @property
    def believable(self) -> bool:
        return not self.failed

    @property
    def reason(self) -> str:
        """In words: the mouth could not be painted; empty when all is believable."""
        names = [WORDS.get(name, name.replace("_", " ")) for name in self.failed]
        if not names:
            return ""
        listed = names[0] if len(names) == 1 else f"{', the '.join(names[:-1])} and the {names[-1]}"
        return f"the {listed} could not be painted"


def hidden_features(face: FaceAnalysis) -> list[str]:
    """What of the face has to be there in a painted crop: features hidden by JUDGED and more, and hair."""
    names = [name for name in KINDS if face.coverage.get(name, 0.0) >= JUDGED]
    return [*names, "hair"] if hidden_hair(face) >= HAIR_PX else names


def hidden_hair(face: FaceAnalysis) -> int:
    """Pixels of the crop that are hair, as far as the parser can tell, and hidden."""
    hair = face.regions.get("hair")
    return 0 if hair is None else int((hair & face.crop_mask).sum())


def window(crop: np.ndarray, mask: np.ndarray, name: str, landmarks: np.ndarray, hair: np.ndarray | None) -> np.ndarray:
    """uint8 [64, 64, 4]: RGB and hole (255) round a feature of a crop [256, 256, 3] with landmarks [68, 2]."""
    points, share = WINDOWS[name]
    eyes = max(float(np.hypot(*(landmarks[42:48].mean(0) - landmarks[36:42].mean(0)))), 8.0)
    if len(points):
        centre = landmarks[list(points)].mean(0)
    else:  # the middle of the hidden hair
        depth = cv2.distanceTransform((hair & mask).astype(np.uint8), cv2.DIST_L2, 3)
        centre = np.array(np.unravel_index(int(depth.argmax()), depth.shape)[::-1], float)
    scale = share * eyes / WINDOW
    matrix = np.column_stack([scale * np.eye(2), centre - scale * (WINDOW - 1) / 2])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    rgb = cv2.warpAffine(crop, matrix, (WINDOW, WINDOW), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    hole = cv2.warpAffine(mask.astype(np.uint8) * 255, matrix, (WINDOW, WINDOW), flags=flags)
    return np.concatenate([rgb, hole[..., None]], -1)


def as_input(windows: np.ndarray) -> torch.Tensor:
    """uint8 [B, 64, 64, 4] -> float [B, 4, 64, 64]: colours in [-1, 1], the hole in [0, 1]."""
    rgb = to_tensor(np.ascontiguousarray(windows[..., :3]))
    hole = torch.from_numpy(windows[..., 3].astype(np.float32) / 255)[:, None]
    return torch.cat([rgb, hole], 1)


def energies(patch: np.ndarray) -> tuple[float, float]:
    """log of (gradient inside the hole over outside, finest grain inside over outside) of a window [64, 64, 4]."""
    grey = cv2.cvtColor(np.ascontiguousarray(patch[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    grain = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.0))
    inside = patch[..., 3] > 127
    if not inside.any() or inside.all():
        return (float(np.log((gradient.mean() + 2) / 30)), float(np.log((grain.mean() + 0.3) / 2)))
    ratio = (gradient[inside].mean() + 2) / (gradient[~inside].mean() + 2)
    fine = (grain[inside].mean() + 0.3) / (grain[~inside].mean() + 0.3)
    return float(np.log(ratio)), float(np.log(fine))


def middle_band(patch: np.ndarray) -> np.ndarray:
    """float32 [H, W]: a window's grey [H, W, 3 or 4] between Gaussians of 1 and 8 px, neither grain nor shading."""
    grey = cv2.cvtColor(np.ascontiguousarray(patch[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.GaussianBlur(grey, (0, 0), 1.0) - cv2.GaussianBlur(grey, (0, 0), 8.0)


EYE_ROWS, EYE_COLUMNS = slice(18, 46), slice(10, 54)  # of a window: the eye without its brow


def twin_window(crop: np.ndarray, face: FaceAnalysis, name: str, painted: bool = False) -> np.ndarray | None:
    """`window` of an eye's twin, mirrored; None where that is hidden too (but with `painted`) and for no eye."""
    other = TWINS.get(name)
    if other is None or (not painted and face.coverage.get(other, 0.0) >= JUDGED):
        return None
    return window(crop, face.crop_mask, other, face.landmarks, None)[:, ::-1]


def twin_colour(crop: np.ndarray, face: FaceAnalysis, name: str, painted: bool = False) -> float | None:
    """How far an eye's colour is from its twin's, mirrored: 98th percentile (a red corner is small) of the distance of
    a and b (CIELAB, so that shadow hardly counts) after a Gaussian of 2 px of the windows. None without a twin;
    painted: one that was painted too is one."""
    if (other := twin_window(crop, face, name, painted)) is None:
        return None
    eyes = (window(crop, face.crop_mask, name, face.landmarks, None), other)
    lab = [cv2.cvtColor(np.ascontiguousarray(e[..., :3], np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1:] for e in eyes]
    own, twin = (cv2.GaussianBlur(e, (0, 0), 2.0)[EYE_ROWS, EYE_COLUMNS] for e in lab)
    return float(np.percentile(np.linalg.norm(own - twin, axis=-1), 98))


def twin_likeness(patch: np.ndarray, crop: np.ndarray, face: FaceAnalysis, name: str, painted: bool = False) -> float:
    """Best correlation in [-1, 1] of an eye's window with its twin's, mirrored; NO_TWIN without one, as twin_colour."""
    if (other := twin_window(crop, face, name, painted)) is None:
        return NO_TWIN
    twin = middle_band(other)
    rows, columns = EYE_ROWS, EYE_COLUMNS
    wide = twin[rows.start - REACH : rows.stop + REACH, columns.start - REACH : columns.stop + REACH]
    inner = np.ascontiguousarray(middle_band(patch)[rows, columns])
    if inner.std() < 0.5:  # OpenCV calls a flat template like everything
        return 0.0
    return float(cv2.matchTemplate(np.ascontiguousarray(wide), inner, cv2.TM_CCOEFF_NORMED).max())


class Believer:
    """Looks at painted crops. net: BelieveNet; model: {"weights": kind -> [intercept, one a sign], "limits": kind ->
    (of features hidden in part, of those hidden from WHOLE on)}, as the manifest has it."""

    def __init__(self, net: Any, landmarker: Any, parser: Any, model: Mapping[str, Any]) -> None:
        self.net, self.landmarker, self.parser, self.model = net.eval(), landmarker, parser, model

    def signs(self, crop: np.ndarray, face: FaceAnalysis, names: Sequence[str]) -> tuple[np.ndarray, float]:
        """([len(names), len(SIGNS)], landmark shift) of a painted crop uint8 [256, 256, 3]; face: as analysed
        before the painting."""
        nothing = np.zeros(face.crop_mask.shape, bool)
        points, sure = self.landmarker.predict(crop, nothing)
        labels = self.parser.predict(crop, nothing)
        points, sure = np.asarray(points), np.asarray(sure)
        eyes = max(float(np.hypot(*(face.landmarks[45] - face.landmarks[36]))), 1.0)
        apart = np.linalg.norm(points - face.landmarks, axis=1) / eyes
        hair = face.regions.get("hair")
        patches = np.stack([window(crop, face.crop_mask, n, face.landmarks, hair) for n in names])
        logits = self._logits(patches, names)
        rows = []
        for name, logit, patch in zip(names, logits, patches, strict=True):
            members = list(WINDOWS[name][0])
            region = face.regions[name] & face.crop_mask
            parsed = float((labels[region] == PARSING_CLASSES.index(name)).mean()) if region.any() else 1.0
            confidence = float(sure[members].mean()) if members else 1.0
            shift = float(apart[members].mean()) if members else 0.0
            rows.append([float(np.clip(logit, -8, 8)), confidence, shift, parsed, *energies(patch)])
            rows[-1].append(twin_likeness(patch, crop, face, name))
        return np.asarray(rows, np.float64), float(100 * apart.mean())

    @torch.inference_mode()
    def _logits(self, patches: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Of the network, the mean of the windows as they are and mirrored: half of a lone reading's noise is gone."""
        kinds = torch.tensor([[KINDS.index(n), KINDS.index(MIRRORED.get(n, n))] for n in names])
        x = as_input(patches)
        return (0.5 * (self.net(x, kinds[:, 0]) + self.net(x.flip(-1), kinds[:, 1]))).numpy()

    def __call__(self, crop: np.ndarray, face: FaceAnalysis) -> Believability:
        """Of a painted crop, uint8 [256, 256, 3], known pixels kept."""
        names = hidden_features(face)
        numbers: dict[str, float] = {}
        shift = None
        if names:
            rows, shift = self.signs(crop, face, names)
            for name, signs in zip(names, rows, strict=True):
                numbers[name] = probability(self.model["weights"][name], signs)
        limits = {n: self.model["limits"][n][face.coverage.get(n, 0.0) >= WHOLE] for n in names}
        if face.crop_mask.any():
            numbers["rim"], limits["rim"] = float(np.exp(-max(seam_ratio(crop, face.crop_mask), 0.0) / RIM)), np.exp(-1)
        margins = {name: value / limits[name] for name, value in numbers.items()}
        failed = [name for name, margin in margins.items() if margin < 1]
        eyes = [name for name in names if name in TWINS]  # two that were painted together shall be a pair too
        colours = [twin_colour(crop, face, name, painted=True) for name in eyes]
        views = [window(crop, face.crop_mask, name, face.landmarks, None) for name in eyes]
        likenesses = [twin_likeness(view, crop, face, name, True) for view, name in zip(views, eyes, strict=True)]
        worst = min(margins.values(), default=None)
        return Believability(numbers, failed, worst, shift, max(colours, default=None), min(likenesses, default=None))


def probability(weights: Sequence[float], signs: np.ndarray) -> float:
    """Of the logistic model: weights [1 + len(SIGNS)], the intercept first."""
    return float(1 / (1 + np.exp(-np.clip(weights[0] + np.dot(weights[1:], signs), -30, 30))))


def load_believer(bundle: Any) -> Believer | None:
    """With the network of the model's folder, else of the package's own; None where neither has one, or the face
    networks are missing."""
    from idinpaint.models.believability import BelieveNet
    from idinpaint.models.weights import BUNDLED, WeightStore

    store, networks = (
        getattr(bundle, "store", None),
        (getattr(bundle, "landmarker", None), getattr(bundle, "parser", None)),
    )
    if None in networks or store is None:
        return None
    for place in (store, WeightStore(BUNDLED)):
        if FILE in getattr(place, "manifest", {}):
            config, state = place.load(FILE)
            if config["signs"] != list(SIGNS):  # of another version of this package
                continue
            net = BelieveNet(config["kinds"], tuple(config["widths"]))
            net.load_state_dict(state)
            return Believer(net, *networks, {name: config[name] for name in ("weights", "limits")})
    return None
