"""Identity encoders behind one interface: unit vectors of faces on the 112 px ArcFace template."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np

from idinpaint.faces.alignment import arcface_matrix, warp_to_crop
from idinpaint.models.devices import device_type
from idinpaint.models.weights import sha256_of
from idinpaint.types import InputError

PACKS = Path.home() / ".insightface" / "models"  # where insightface keeps its packs
KEPT = 64  # faces whose vectors an encoder remembers
HIDDEN_GREY = 128  # hidden pixels are mid grey: about 0 once scaled to [-1, 1]


class IdentityEncoder(Protocol):
    """What every encoder offers. threshold: cosine from which two photos count as one person; dim: numbers a vector."""

    name: str
    threshold: float
    dim: int

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Faces [112, 112, 3] uint8 RGB, hidden pixels HIDDEN_GREY -> [B, D] unit vectors."""


class _Remembering:
    """Reads no face twice: the candidate that wins, the references and the undamaged parts are all asked about again
    when it is ranked, verified and compared. Knows the latest KEPT faces by their pixels."""

    _known: Mapping[bytes, np.ndarray] = MappingProxyType({})  # every encoder replaces it by its own

    def embed(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """See IdentityEncoder."""
        keys = [hashlib.sha256(np.ascontiguousarray(face)).digest() for face in faces]
        vectors = {key: self._known[key] for key in keys if key in self._known}
        new = {key: face for key, face in zip(keys, faces, strict=True) if key not in vectors}
        if new:
            vectors.update(zip(new, self._embed(list(new.values())), strict=True))
        self._known = dict([*self._known.items(), *vectors.items()][-KEPT:])
        return np.stack([vectors[key] for key in keys])


class BundledEncoder(_Remembering):
    """The package's own network, trained to see through occlusion."""

    def __init__(self, net, threshold: float, device: str = "cpu", sha256: str | None = None) -> None:
        self.net, self.threshold, self.device, self.sha256 = net.eval().to(device), threshold, device, sha256
        self.name, self.dim = "bundled", net.config["dim"]

    def _embed(self, faces: list[np.ndarray]) -> np.ndarray:
        """See IdentityEncoder; the mean over a face and its mirror image, as in training."""
        import torch
        import torch.nn.functional as F

        from idinpaint.models.tensors import to_tensor

        batch = to_tensor(np.stack(list(faces))).to(self.device)
        with torch.inference_mode():
            both = self.net(batch) + self.net(batch.flip(-1))
        return F.normalize(both.float(), dim=-1).cpu().numpy()


class InsightFaceEncoder(_Remembering):
    """An ArcFace network of an InsightFace pack (buffalo_l, antelopev2, ...) or of a local ONNX file or folder."""

    threshold = 0.35  # cosine; ArcFace R50 on WebFace600K separates pairs at about this value

    def __init__(self, pack: str = "buffalo_l", device: str = "cpu") -> None:
        try:
            from insightface.model_zoo import get_model
        except ImportError as error:
            raise InputError("insightface is not installed; pip install 'idinpaint[insightface]'") from error
        path = self.find(pack)
        on_cuda = device_type(device) == "cuda"
        providers = [*(["CUDAExecutionProvider"] if on_cuda else []), "CPUExecutionProvider"]
        try:
            self.net = get_model(str(path), providers=providers)
        except Exception as error:  # of onnxruntime
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: cannot be loaded ({reason}); fetch it again") from error
        if self.net is None or not hasattr(self.net, "get_feat"):
            raise InputError(
                f"{path}: not an ArcFace recognition network; give the pack's w600k_*.onnx or glintr100.onnx"
            )
        self.net.prepare(ctx_id=int(device.partition(":")[2] or 0) if on_cuda else -1)
        self.name, self.sha256, self.dim = f"insightface/{path.name}", sha256_of(path), int(self.net.output_shape[-1])

    @staticmethod
    def find(pack: str) -> Path:
        """The recognition network of a pack's name, a folder (antelopev2's zip holds one in a folder) or an ONNX file.

        Raises InputError when there is none.
        """
        given = Path(pack)
        if given.suffix == ".onnx" and given.is_file():
            return given
        folder = given if given.is_dir() else PACKS / pack
        for pattern in ("w600k*.onnx", "glint*.onnx"):
            if found := sorted(folder.rglob(pattern)):
                return found[0]
        if len(alone := sorted(folder.rglob("*.onnx"))) == 1:
            return alone[0]
        raise InputError(
            f"insightface:{pack}: no recognition network (w600k*.onnx, glint*.onnx, or one alone) in {folder}; "
            f"fetch it by `insightface-cli model.download {given.name}`, or name its ONNX file"
        )

    def _embed(self, faces: list[np.ndarray]) -> np.ndarray:
        """See IdentityEncoder."""
        # InsightFace takes BGR and swaps it back itself.
        vectors = self.net.get_feat([np.ascontiguousarray(face[..., ::-1]) for face in faces])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class SFaceEncoder(_Remembering):
    """SFace (Zhong et al. 2021) through OpenCV: it neither conditions nor trains anything here, so it may judge."""

    name, dim = "sface", 128
    threshold = 0.363  # cosine, OpenCV's own; eval/calibrate.py measures another

    def __init__(self, path: Path, sha256: str | None = None) -> None:
        import cv2

        self.net, self.sha256 = cv2.FaceRecognizerSF.create(str(path), ""), sha256

    def _embed(self, faces: list[np.ndarray]) -> np.ndarray:
        """See IdentityEncoder; it was not trained on hidden pixels."""
        # OpenCV wants the other order of colours.
        vectors = [self.net.feature(np.ascontiguousarray(face[..., ::-1]))[0].copy() for face in faces]
        return np.stack([v / max(float(np.linalg.norm(v)), 1e-9) for v in np.asarray(vectors, np.float64)])


def hide(face: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """A copy of [112, 112, 3] uint8 with the pixels where hidden [112, 112] bool is True set to HIDDEN_GREY."""
    out = face.copy()
    out[hidden] = HIDDEN_GREY
    return out


def arcface_crop(rgb: np.ndarray, mask: np.ndarray | None, landmarks: np.ndarray) -> np.ndarray:
    """What an encoder reads: the face on the 112 px ArcFace template, grey under the mask and beyond the picture.

    rgb: [H, W, 3] uint8; mask: [H, W] bool, True = hole, or None; landmarks: [68, 2] px of rgb -> [112, 112, 3] uint8.
    Raises ValueError or numpy.linalg.LinAlgError when the points coincide.
    """
    face, hidden, _ = warp_to_crop(rgb, mask, arcface_matrix(landmarks), 112)
    return hide(face, hidden)
