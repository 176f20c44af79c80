"""One photo -> one aligned face with landmarks, identity and skin, or the reason why there is none."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from idinpaint.data.prepare_sources import Source
from idinpaint.faces.alignment import (
    ffhq_crop_matrix,
    scale_of,
    transform_points,
    warp_to_crop,
)
from idinpaint.faces.analyzer import FaceAnalyzer
from idinpaint.faces.identity import arcface_crop
from idinpaint.faces.search import SURE_CONFIDENCE
from idinpaint.imaging.photo import load_photo, open_image
from idinpaint.types import CROP_SIZE, InputError

MIN_FACE_PX = 64  # side of the crop in the photo; below, 256 px would be four times enlarged or more
MAX_OUTSIDE = 0.25  # share of the crop beyond the photo's edge, filled by reflection
ALIGNED_PX = 16.0  # crop px: frames whose corners are this near to the predicted crop are taken as they are
RIVAL = 0.7  # side of a second face / side of the largest, from which a photo of a named person is ambiguous
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (CROP_SIZE - 1.0)


@dataclass
class Drop(Exception):
    """Why a photo is left out: kind is one word for the summary, detail a line for a person."""

    kind: str
    detail: str


@dataclass
class Face:
    """crop [256, 256, 3] uint8; outside [256, 256] bool; landmarks [68, 2] crop px; crop_to_photo [2, 3].

    skin [256, 256] bool and labels [256, 256] uint8, places in PARSING_CLASSES; skin_source: annotated or predicted,
    of both; id_embed [D]; source_px: the crop's side in the photo.
    """

    source: Source
    crop: np.ndarray
    outside: np.ndarray
    crop_to_photo: np.ndarray
    photo_size: tuple[int, int]  # width, height
    landmarks: np.ndarray | None = None
    confidence: float = 0.0
    faces: int = 1
    skin: np.ndarray | None = None
    labels: np.ndarray | None = None
    skin_source: str = "predicted"
    id_embed: np.ndarray | None = None
    notes: list[Drop] = field(default_factory=list)

    @property
    def source_px(self) -> float:
        """Photo px, side of the crop."""
        return scale_of(self.crop_to_photo) * CROP_SIZE


class FaceReader:
    """The package's own networks over photos of `root`, a batch at a time; holds one full-size photo at a time."""

    def __init__(self, root: Path, store: Any, landmarker: Any, parser: Any, identity: Any) -> None:
        self.root, self.landmarker, self.parser, self.identity = root, landmarker, parser, identity
        self.analyzer = FaceAnalyzer(landmarker, None, None, store)

    def read(self, sources: Iterable[Source]) -> Iterator[Face | tuple[Source, Drop]]:
        """A Face, or what is wrong, for each source of a batch, in order."""
        sources = list(sources)
        results: dict[str, Any] = {s.name: self._try(self._frame, s) for s in sources}
        frames = [f for f in results.values() if isinstance(f, Face)]
        self._landmarks(frames)
        for source in sources:
            if results[source.name] is None or (
                isinstance(results[source.name], Face) and not _is_crop(results[source.name])
            ):
                results[source.name] = self._try(self._search, source)
        faces = [f for f in results.values() if isinstance(f, Face)]
        self._identities(faces)
        self._skins(faces)
        for source in sources:
            result = results[source.name]
            yield (source, result) if isinstance(result, Drop) else result

    @staticmethod
    def _try(work: Any, source: Source) -> Any:
        """work(source), or the Drop that it raised."""
        try:
            return work(source)
        except Drop as drop:
            return drop
        except InputError as error:
            return Drop("unreadable", str(error).split(": ", 1)[-1])

    def _frame(self, source: Source) -> Face | None:
        """A square photo as its own crop, which aligned data sets are; None for others."""
        image = self._open(source)
        if image.width != image.height:
            return None
        scale = image.width / CROP_SIZE
        crop = image if scale == 1 else image.resize((CROP_SIZE, CROP_SIZE), Image.Resampling.LANCZOS)
        matrix = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
        return Face(source, np.array(crop), np.zeros((CROP_SIZE, CROP_SIZE), bool), matrix, image.size)

    def _open(self, source: Source) -> Image.Image:
        """Upright RGB, every byte of it decoded."""
        rgb = load_photo(self.root / source.path).rgb
        if min(rgb.shape[:2]) < MIN_FACE_PX:
            raise Drop("small", f"{rgb.shape[1]}x{rgb.shape[0]} px, at least {MIN_FACE_PX} are needed")
        return Image.fromarray(rgb)

    def _landmarks(self, faces: list[Face]) -> None:
        """Points and confidence of whole frames, one pass of the network."""
        if not faces:
            return
        points, confidence = self.landmarker.predict_batch(
            np.stack([f.crop for f in faces]), np.stack([f.outside for f in faces])
        )
        for face, p, c in zip(faces, points, confidence, strict=True):
            face.landmarks, face.confidence = p, float(c.mean())

    def _search(self, source: Source) -> Face:
        """Detect, align and crop the largest face."""
        rgb = np.asarray(self._open(source))
        found = self.analyzer.search.locate(rgb)
        if not found:
            raise Drop("no face", "no upright face was found")
        best = found[0]
        if source.identity and len(found) > 1 and found[1].side > RIVAL * best.side:
            raise Drop("several faces", f"{len(found)} faces, two of similar size: which is {source.identity}?")
        if best.outside.mean() > MAX_OUTSIDE:
            raise Drop("cut off", f"{100 * best.outside.mean():.0f} % of the face crop lies beyond the photo's edge")
        if best.side < MIN_FACE_PX:
            raise Drop("small", f"the face crop has {best.side:.0f} px, at least {MIN_FACE_PX} are needed")
        crop = reflected_crop(rgb, best.crop_to_photo)
        size, confidence = (rgb.shape[1], rgb.shape[0]), float(best.confidence.mean())
        return Face(source, crop, best.outside, best.crop_to_photo, size, best.landmarks, confidence, len(found))

    def _identities(self, faces: list[Face]) -> None:
        """Unit vectors, from the crops as training sees them."""
        if not faces:
            return
        aligned = [arcface_crop(face.crop, face.outside, face.landmarks) for face in faces]
        for face, vector in zip(faces, self.identity.embed(aligned), strict=True):
            face.id_embed = np.asarray(vector, np.float32)

    def _skins(self, faces: list[Face]) -> None:
        """The annotated skin and labels where there are some that can be read, else the parser's."""
        for face in (f for f in faces if f.source.skin):
            try:
                face.skin, face.labels = self._annotated(face, face.source.skin), self._annotated_labels(face)
                face.skin_source = "annotated"
            except InputError as error:
                face.notes.append(Drop("skin mask", f"predicted instead of annotated: {str(error).split(': ', 1)[-1]}"))
        rest = [f for f in faces if f.labels is None]
        if rest:
            from idinpaint.faces.parsing import PARSING_CLASSES

            labels = self.parser.predict_batch(np.stack([f.crop for f in rest]), np.stack([f.outside for f in rest]))
            for face, label in zip(rest, labels, strict=True):
                face.skin, face.labels = label == PARSING_CLASSES.index("skin"), label.astype(np.uint8)

    def _annotated_labels(self, face: Face) -> np.ndarray:
        """Every part of CelebAMask-HQ over the one below it."""
        from idinpaint.faces.parsing import PARSING_CLASSES, PART_CLASS, part_files

        skin = self.root / face.source.skin
        labels = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
        for part, path in part_files(skin.parent, skin.stem.removesuffix("_skin")):
            inside = self._annotated(face, path.relative_to(self.root).as_posix())
            labels[inside] = PARSING_CLASSES.index(PART_CLASS[part])
        return labels

    def _annotated(self, face: Face, file: str) -> np.ndarray:
        """A mask of CelebAMask-HQ, which has another resolution than the photo, cut like the photo."""
        mask = open_image(self.root / file).convert("L")
        if abs(mask.width * face.photo_size[1] - mask.height * face.photo_size[0]) > mask.width + mask.height:
            raise InputError(f"{file}: {mask.width}x{mask.height} px, another shape than the photo")
        scale = mask.width / face.photo_size[0]
        matrix = face.crop_to_photo * scale
        matrix[:, 2] += (scale - 1) / 2
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(np.asarray(mask), matrix, (CROP_SIZE, CROP_SIZE), flags=flags) > 127


def _is_crop(face: Face) -> bool:
    """Whether the whole frame is an FFHQ-style crop of a sure face."""
    if face.confidence < SURE_CONFIDENCE:
        return False
    try:
        shift = transform_points(ffhq_crop_matrix(face.landmarks), CORNERS) - CORNERS
    except ValueError:
        return False
    return float(np.sqrt((shift**2).sum(1).mean())) <= ALIGNED_PX


def reflected_crop(rgb: np.ndarray, crop_to_photo: np.ndarray) -> np.ndarray:
    """The crop [256, 256, 3]; beyond its edges the photo is mirrored, as FFHQ does, so that no black is learned."""
    corners = transform_points(crop_to_photo, CORNERS + [[-2, -2], [2, -2], [2, 2], [-2, 2]])
    height, width = rgb.shape[:2]
    beyond = max(-corners.min(), (corners.max(0) - (width - 1, height - 1)).max())
    pad = int(np.ceil(max(beyond, 0)))
    if pad:
        rgb = cv2.copyMakeBorder(rgb, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
        crop_to_photo = crop_to_photo + np.array([[0, 0, pad], [0, 0, pad]])
    return warp_to_crop(rgb, None, crop_to_photo)[0]


def encode(pixels: np.ndarray, image_format: str) -> bytes:
    """uint8 [256, 256, 3], bool or uint8 [256, 256] -> bytes: png and webp keep all, jpeg is quality 95, 4:4:4."""
    buffer = io.BytesIO()
    if pixels.dtype == bool or pixels.ndim == 2:
        Image.fromarray(pixels).save(buffer, "PNG")  # one bit a pixel, or labels
    elif image_format == "jpeg":
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    elif image_format == "webp":
        Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=50)
    else:
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
