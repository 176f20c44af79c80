"""The networks that judge pictures, and their weights: LPIPS (alex, vgg), SFace behind YuNet, Inception.

Pictures are uint8 [H, W, 3] RGB, masks bool [H, W], True = hole.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from idinpaint.models.weights import user_folder
from idinpaint.types import InputError

SFACE_FILE = "face_recognition_sface_2021dec.onnx"
YUNET_FILE = "face_detection_yunet_2023mar.onnx"
INCEPTION_FILE = "inception_fid.pt"
INCEPTION_SIDE = 299  # px
BACKBONE_FILES = {"alex": "alexnet_features_torchvision.pth", "vgg": "vgg16_features_torchvision.pth"}

# torchvision's `features` as (index, in, out, kernel, stride, padding), pools as (index, kernel), and the slices'
# ends: LPIPS reads the ReLU output that closes each slice.
ALEX_CONVS = ((0, 3, 64, 11, 4, 2), (3, 64, 192, 5, 1, 2), (6, 192, 384, 3, 1, 1), (8, 384, 256, 3, 1, 1))
ALEX_CONVS += ((10, 256, 256, 3, 1, 1),)
ALEX_POOLS, ALEX_SLICES = ((2, 3), (5, 3)), (1, 4, 7, 9, 11)
VGG_WIDTHS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
VGG_WIDTHS |= {17: (256, 512), **{i: (512, 512) for i in (19, 21, 24, 26, 28)}}
VGG_CONVS = tuple((i, a, b, 3, 1, 1) for i, (a, b) in VGG_WIDTHS.items())
VGG_POOLS, VGG_SLICES = ((4, 2), (9, 2), (16, 2), (23, 2)), (3, 8, 15, 22, 29)


def build_features(net: str) -> nn.Sequential:
    """torchvision's `alexnet().features` or `vgg16().features` up to the last ReLU that LPIPS reads, untrained."""
    convs, pools, slices = (
        (ALEX_CONVS, ALEX_POOLS, ALEX_SLICES) if net == "alex" else (VGG_CONVS, VGG_POOLS, VGG_SLICES)
    )
    layers: dict[int, nn.Module] = {i: nn.MaxPool2d(kernel, stride=2) for i, kernel in pools}
    for index, channels_in, channels_out, kernel, stride, padding in convs:
        layers[index] = nn.Conv2d(channels_in, channels_out, kernel, stride, padding)
        layers[index + 1] = nn.ReLU()
    return nn.Sequential(*(layers[i] for i in range(slices[-1] + 1)))


class LPIPS(nn.Module):
    """Learned perceptual distance (Zhang 2018, v0.1): torchvision backbone, linear heads as torchmetrics ships them."""

    def __init__(self, net: str, backbone: Path) -> None:
        """net: "alex" or "vgg"; backbone: state dict with torchvision's names (`features.N.weight`)."""
        super().__init__()
        self.slices = ALEX_SLICES if net == "alex" else VGG_SLICES
        state = torch.load(backbone, map_location="cpu", weights_only=True)
        self.features = build_features(net)
        self.features.load_state_dict({key.removeprefix("features."): value.float() for key, value in state.items()})
        heads = torch.load(_heads_file(net), map_location="cpu", weights_only=True)
        self.heads = [heads[f"lin{i}.model.1.weight"].float() for i in range(len(self.slices))]
        self.shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        self.scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        self._last: tuple[np.ndarray, list[Tensor]] | None = None
        self.eval().requires_grad_(False)

    def unit_features(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] -> each slice's features [B, C, h, w], of length 1 at every pixel."""
        x, found = (image - self.shift) / self.scale, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.slices:
                found.append(x / torch.sqrt(1e-8 + x.square().sum(dim=1, keepdim=True)))
        return found

    def maps_between(self, a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        """unit_features twice -> one weighted distance map [B, 1, h, w] per slice."""
        return [F.conv2d((x - y).square(), head) for x, y, head in zip(a, b, self.heads, strict=True)]

    def large_map(self, maps: list[Tensor], shape: tuple[int, int]) -> np.ndarray:
        """[H, W] of that shape: maps [1, 1, h, w] bilinearly enlarged and added up."""
        large = [F.interpolate(m, size=shape, mode="bilinear", align_corners=False) for m in maps]
        return sum(large)[0, 0].numpy()

    def _of_original(self, original: np.ndarray) -> list[Tensor]:
        """Its features; those of the last original are kept, since a case is scored method after method."""
        if self._last is None or self._last[0] is not original:
            self._last = (original, self.unit_features(_to_tensor(original)))
        return self._last[1]

    @torch.no_grad()
    def pairwise(self, pictures: Sequence[np.ndarray]) -> float:
        """Mean distance over all pairs of the pictures, each read once."""
        found = [self.unit_features(_to_tensor(picture)) for picture in pictures]
        pairs = itertools.combinations(found, 2)
        return float(np.mean([sum(float(m.mean()) for m in self.maps_between(a, b)) for a, b in pairs]))

    def distance(self, image: np.ndarray, original: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
        """Distance of the pictures, and of the bilinearly enlarged distance maps over the hole (NaN without mask)."""
        with torch.no_grad():
            maps = self.maps_between(self.unit_features(_to_tensor(image)), self._of_original(original))
            whole = sum(float(m.mean()) for m in maps)
            return whole, float("nan") if mask is None else float(self.large_map(maps, mask.shape)[mask].mean())


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None].contiguous() / 127.5 - 1


def _heads_file(net: str) -> Path:
    import torchmetrics.functional.image as functional_image

    return Path(functional_image.__file__).parent / "lpips_models" / f"{net}.pth"


class FaceIdentity:
    """SFace behind YuNet's five points: an encoder that neither trained nor conditioned anything here."""

    def __init__(self, sface: Path, yunet: Path, score_threshold: float = 0.6) -> None:
        self._recognizer = cv2.FaceRecognizerSF.create(str(sface), "")
        self._detector = cv2.FaceDetectorYN.create(str(yunet), "", (256, 256), score_threshold)

    def read(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """(unit vector [128], points [5, 2] px: eyes, nose, mouth corners) of the surest face; None without one."""
        bgr = np.ascontiguousarray(image[..., ::-1])  # both OpenCV networks want BGR
        self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
        faces = self._detector.detect(bgr)[1]
        if faces is None:
            return None
        best = faces[int(np.argmax(faces[:, -1]))]
        vector = self._recognizer.feature(self._recognizer.alignCrop(bgr, best))[0].astype(np.float64)
        return vector / np.linalg.norm(vector), best[4:14].reshape(5, 2).astype(np.float64)

    def embed(self, image: np.ndarray) -> np.ndarray | None:
        """Unit vector [128] of the face with the best score in a uint8 RGB picture, None when none is detected."""
        found = self.read(image)
        return None if found is None else found[0]


def landmark_error(points: np.ndarray | None, truth: np.ndarray | None, mask: np.ndarray) -> float:
    """Mean distance of the points [5, 2] whose true place is under the mask, in per cent of the eyes' distance.

    NaN when no point is hidden, or when a face was not found in one of the pictures (None).
    """
    if points is None or truth is None:
        return float("nan")
    x, y = np.clip(np.rint(truth), 0, mask.shape[0] - 1).astype(int).T
    hidden = mask[y, x]
    eyes = float(np.linalg.norm(truth[0] - truth[1]))
    return float(100 * np.linalg.norm(points - truth, axis=1)[hidden].mean() / eyes) if hidden.any() else float("nan")


class Inception:
    """Features [2048] of the Inception-v3 that FID is defined with (TorchScript; input (x - 128) / 128 at 299 px)."""

    def __init__(self, path: Path) -> None:
        self._net = torch.jit.load(str(path), map_location="cpu").eval()

    def features(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [2048]. Resized as clean-fid does: bicubic, antialiased, in float, no rounding."""
        size = (INCEPTION_SIDE, INCEPTION_SIDE)
        planes = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
        large = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
        with torch.no_grad():
            return self._net((torch.from_numpy(np.stack(large))[None] - 128) / 128)[0].numpy().astype(np.float32)


def identity_similarity(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """Cosine of two unit vectors in [-1, 1]; 0 when the face was not detected in one of the pictures."""
    return 0.0 if a is None or b is None else float(a @ b)


@dataclass(frozen=True)
class MetricSuite:
    """The networks with their weights loaded. lpips_vgg and inception are None when their weights are absent."""

    lpips_alex: LPIPS
    lpips_vgg: LPIPS | None
    identity: FaceIdentity
    inception: Inception | None = None

    def diversity(self, samples: tuple[np.ndarray, ...]) -> float:
        """Mean LPIPS-alex over all pairs of the samples; NaN for fewer than two."""
        return self.lpips_alex.pairwise(samples) if len(samples) > 1 else float("nan")


def weight_folders(data: Path, given: Path | None) -> list[Path]:
    """Where metric weights are looked for: the given one, else beside the data, else where the user keeps weights."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "idinpaint" / "metric_weights"
    return [given] if given else [data.resolve().parent / "metric_weights", user_folder(), cache]


def find_weight(name: str, folders: list[Path]) -> Path | None:
    """First folder's file of that name, or None."""
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def load_metrics(data: Path, given: Path | None = None) -> MetricSuite:
    """Load every metric. Raises InputError, with the way out, when SFace, YuNet or AlexNet is missing."""
    folders = weight_folders(data, given)
    with_models = [*folders, data.resolve().parent / "models"]  # AlexNet and YuNet also lie beside the data
    found = {
        name: find_weight(name, with_models)
        for name in (SFACE_FILE, YUNET_FILE, INCEPTION_FILE, *BACKBONE_FILES.values())
    }
    for name in (SFACE_FILE, YUNET_FILE, BACKBONE_FILES["alex"]):
        if found[name] is None:
            raise InputError(
                f"metric weights: {name} is not in {' or '.join(map(str, folders))}; "
                "run `python eval/fetch_metric_weights.py DIR` and pass --metric-weights DIR"
            )
    vgg, inception = found[BACKBONE_FILES["vgg"]], found[INCEPTION_FILE]
    return MetricSuite(
        lpips_alex=LPIPS("alex", found[BACKBONE_FILES["alex"]]),
        lpips_vgg=LPIPS("vgg", vgg) if vgg else None,
        identity=FaceIdentity(found[SFACE_FILE], found[YUNET_FILE]),
        inception=Inception(inception) if inception else None,
    )
