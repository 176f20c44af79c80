"""analyse -> decide -> inpaint -> composite -> verify; nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from idinpaint import __version__
from idinpaint.coerce import as_mask, as_rgb
from idinpaint.compositing import coarse_fill, composite, harmonize, mark_hole, paste_crop
from idinpaint.controller import VERIFIED_ONLY_RULES, ControllerConfig, decide
from idinpaint.faces.alignment import arcface_matrix, transform_points, warp_to_crop
from idinpaint.faces.identity import hide
from idinpaint.inpainters.base import FillRequest, Inpainter
from idinpaint.masks import hole_ratio
from idinpaint.references import References, check_against_face, read_references
from idinpaint.types import CROP_SIZE, Candidate, Decision, FaceAnalysis, InputError, Restoration
from idinpaint.verify import Verdict, build_report, similarity, verdict_for

CAUTION = ("telea", "prior", "diffusion", "abstain")  # from the least to the most cautious decision
NO_FACE = (
    "no face found under the mask; if it hides one, give --face-box x,y,w,h, since otherwise it is filled as background"
)


class Restorer:
    """Restores photos with one loaded model. Build it with `from_pretrained`."""

    def __init__(self, bundle: Any, analyzer: Any, inpainters: dict[str, Inpainter], device: str) -> None:
        self.bundle, self.analyzer, self.inpainters, self.device = bundle, analyzer, inpainters, device
        self.identity = bundle.identity
        self.controller = ControllerConfig()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str = "default",
        device: str = "auto",
        landmarks: str = "bundled",
        identity: str = "bundled",
    ) -> Restorer:
        """The bundled model, a model or pipeline folder, or a hub id. Raises InputError when it cannot be loaded.

        landmarks: bundled or face-alignment; identity: bundled or insightface:PACK. A model trained on the bundled
        encoder paints only with that one; another encoder serves `verify`, or a model trained with it.
        """
        from idinpaint.bundle import load_bundle, pick_device
        from idinpaint.faces.analyzer import FaceAnalyzer
        from idinpaint.inpainters.diffusion import DiffusionInpainter, PriorInpainter

        device = pick_device(device)
        bundle = load_bundle(name_or_path, device, landmarks, identity)
        analyzer = FaceAnalyzer(bundle.landmarker, bundle.parser, bundle.identity, bundle.store)
        inpainters: dict[str, Inpainter] = {"diffusion": DiffusionInpainter(bundle.pipeline)}
        if hasattr(bundle.pipeline, "prior"):  # a model on Stable Diffusion has none
            inpainters["prior"] = PriorInpainter(bundle.pipeline)
        return cls(bundle, analyzer, inpainters, device)

    def __call__(
        self,
        image: Any,
        mask: Any,
        references: Sequence[Any] = (),
        strategy: str = "auto",
        num_samples: int = 4,
        steps: int | None = None,
        seed: int = 0,
        force: bool = False,
        face_box: tuple[float, float, float, float] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Restoration:
        """Restore one photo.

        image, references: path, PIL image or uint8 array [H, W, 3]; mask: path, PIL image or array [H, W],
        1 = hole. strategy: auto, telea, prior or diffusion. Abstaining is a result: `.abstained`, with the hole
        left marked. Raises InputError for input that cannot be used.
        """
        self._check(strategy, num_samples, steps)
        clock = _Clock(progress)
        rgb = as_rgb(image)
        hole = as_mask(mask, rgb.shape[:2])
        known = rgb.copy()
        known[hole] = 0  # nothing under the mask is read from here on
        with clock("finding faces"):
            faces = self.analyzer.analyze(known, hole, face_box)
        notices = [] if faces else [NO_FACE]
        with clock("reading references"):
            photos = [(_name(photo, i), as_rgb(photo)) for i, photo in enumerate(references)]
            refs = read_references(self.analyzer, photos, self.identity.threshold)
            notices += refs.notices
        decisions = [self._decide(face, hole, refs, strategy, force) for face in faces]
        with clock("filling the background"):
            result = coarse_fill(known, hole)
        candidates: list[list[Candidate]] = []
        verdicts: list[Verdict | None] = []
        for index, face in enumerate(faces):
            notices += check_against_face(refs, face, self.identity.threshold)
            with clock("painting the face"):
                made = self._paint(face, decisions[index], refs, num_samples, steps, seed)
            candidates.append(made)
            verdicts.append(self._verdict(made, refs))
            decisions[index] = self._withhold(decisions[index], verdicts[-1])
            if decisions[index].strategy == "abstain":
                inside = hole & _crop_area(face, hole.shape)
                result = composite(mark_hole(result, inside), result, inside)
            elif made:
                result = paste_crop(result, hole, made[0].image, face.crop_to_photo)
        result = composite(result, rgb, hole)
        decision = self._overall(decisions, hole, strategy)
        report = build_report(
            decision, faces, candidates, verdicts, notices, clock.seconds,
            face_decisions=decisions, hole_ratio=hole_ratio(hole), seed=seed, num_samples=num_samples,
            references=len(refs.embeds), encoder=self.identity.name, threshold=self.identity.threshold,
            device=self.device, version=__version__, weights=self.bundle.weights,
        )  # fmt: skip
        return Restoration(result, candidates, decision, report, faces)

    def analyze(
        self, image: Any, mask: Any, face_box: tuple[float, float, float, float] | None = None
    ) -> tuple[list[FaceAnalysis], Decision]:
        """What is hidden of which face, and what `restore` would do; nothing is painted."""
        rgb = as_rgb(image)
        hole = as_mask(mask, rgb.shape[:2])
        faces = self.analyzer.analyze(rgb, hole, face_box)
        decisions = [self._decide(face, hole, References([], None, []), "auto", False) for face in faces]
        return faces, self._overall(decisions, hole, "auto")

    def verify(self, photo_a: Any, photo_b: Any) -> dict[str, Any]:
        """Same person? {similarity, threshold, verdict, text}. Raises InputError for a photo without a face."""
        embeds = []
        for index, photo in enumerate((photo_a, photo_b)):
            name = _name(photo, index)
            embeds += read_references(self.analyzer, [(name, as_rgb(photo))], self.identity.threshold).embeds
        verdict = verdict_for(similarity(*embeds), self.identity.threshold)
        return {**verdict.__dict__, "encoder": self.identity.name}

    def _check(self, strategy: str, num_samples: int, steps: int | None) -> None:
        if strategy not in ("auto", "telea", *self.inpainters):
            raise InputError(f"strategy {strategy}: use one of auto, telea, {', '.join(self.inpainters)}")
        if not 1 <= num_samples <= 64:
            raise InputError(f"num_samples {num_samples}: use 1 to 64")
        if steps is not None and not 1 <= steps <= 1000:
            raise InputError(f"steps {steps}: use 1 to 1000")

    def _decide(self, face: FaceAnalysis, hole: np.ndarray, refs: References, strategy: str, force: bool) -> Decision:
        ratio = hole_ratio(hole)
        decision = decide(face.coverage, face.face_coverage, ratio, bool(refs.embeds), self.controller, force)
        if strategy == "auto":
            return decision
        overridden = decision.strategy == "abstain"
        reason = f"strategy {strategy} chosen by the user"
        if overridden:
            reason += f", against the rule {decision.rule}: {decision.reason}"
        return replace(decision, strategy=strategy, rule="user", reason=reason, forced=decision.forced or overridden)

    def _paint(
        self, face: FaceAnalysis, decision: Decision, refs: References, num_samples: int, steps: int | None, seed: int
    ) -> list[Candidate]:
        """Candidates, best identity first; none where nothing is painted or Telea's fill stays."""
        inpainter = self.inpainters.get(decision.strategy)
        if inpainter is None:
            return []
        embed = refs.mean if refs.mean is not None else face.id_embed
        crops = inpainter.fill(FillRequest(face, embed, num_samples, steps, seed))
        made = []
        for index, predicted in enumerate(crops):
            crop = harmonize(predicted, face.crop, face.crop_mask)
            made.append(Candidate(crop, seed + index, self._likeness(face, crop, embed)))
        return sorted(made, key=lambda c: -(c.identity_similarity or 0.0))

    def _likeness(self, face: FaceAnalysis, crop: np.ndarray, embed: np.ndarray | None) -> float | None:
        """Cosine of a filled crop to an identity vector."""
        if embed is None:
            return None
        nothing = np.zeros((CROP_SIZE, CROP_SIZE), bool)
        aligned, _, outside = warp_to_crop(crop, nothing, arcface_matrix(face.landmarks), 112)
        return similarity(self.identity.embed([hide(aligned, outside)])[0], embed)

    def _verdict(self, made: list[Candidate], refs: References) -> Verdict | None:
        if not made or refs.mean is None or made[0].identity_similarity is None:
            return None
        return verdict_for(made[0].identity_similarity, self.identity.threshold)

    def _withhold(self, decision: Decision, verdict: Verdict | None) -> Decision:
        """Abstain after all when the rule delivers only verified faces and this one is not."""
        if decision.rule not in VERIFIED_ONLY_RULES or decision.forced or (verdict is not None and verdict.same):
            return decision
        said = verdict.text if verdict else "nothing to verify with"
        return replace(decision, strategy="abstain", reason=f"painted, but not verified against the references: {said}")

    def _overall(self, decisions: list[Decision], hole: np.ndarray, strategy: str) -> Decision:
        if decisions:
            return max(decisions, key=lambda d: CAUTION.index(d.strategy))
        decision = decide({}, 0.0, hole_ratio(hole), False, self.controller)
        return decision if strategy == "auto" else replace(decision, rule="user", reason=f"no face; {decision.reason}")


class _Clock:
    """Names the stages to `progress` and keeps their seconds."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.progress, self.seconds = progress, {}

    @contextmanager
    def __call__(self, stage: str):
        if self.progress:
            self.progress(stage)
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _name(photo: Any, index: int) -> str:
    return str(photo) if isinstance(photo, str) or hasattr(photo, "__fspath__") else f"photo {index + 1}"


def _crop_area(face: FaceAnalysis, shape: tuple[int, int]) -> np.ndarray:
    """[H, W] bool, the photo's pixels inside the face's crop."""
    import cv2

    corners = np.array([[0, 0], [CROP_SIZE, 0], [CROP_SIZE, CROP_SIZE], [0, CROP_SIZE]], np.float64) - 0.5
    area = np.zeros(shape, np.uint8)
    cv2.fillPoly(area, [np.rint(transform_points(face.crop_to_photo, corners)).astype(np.int32)], 1)
    return area.astype(bool)
