"""analyse -> decide -> inpaint -> composite -> verify; nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from idinpaint.faces.alignment import warp_to_crop
from idinpaint.faces.analyzer import FaceBoxes
from idinpaint.faces.features import FEATURE_WEIGHTS
from idinpaint.faces.possible import Possible, left_marked, look_for_faces
from idinpaint.faces.references import ReferenceReader, References, reference_rows
from idinpaint.faces.swallowed import abstained, swallowing_part
from idinpaint.imaging.background import refine_background
from idinpaint.imaging.coerce import as_mask, as_rgb
from idinpaint.imaging.compositing import composite, mark_hole, paste_crop
from idinpaint.imaging.masks import hole_ratio
from idinpaint.imaging.print_look import read_look
from idinpaint.judging.believability import TORN_HAIR, hidden_hair, load_believer
from idinpaint.judging.calibration import load_calibration
from idinpaint.judging.controller import ControllerConfig, decide, load_controller, near_threshold
from idinpaint.judging.groups import face_place, names_of, share_out
from idinpaint.judging.verification import (
    Verifier,
    overall_verdict,
    withhold,
    wrong_person,
)
from idinpaint.painting.areas import add_disagreement, crop_area, outside_faces
from idinpaint.painting.base import FillRequest, Inpainter, check_encoder
from idinpaint.painting.painter import Painter
from idinpaint.painting.surroundings import continue_background
from idinpaint.progress import StageClock
from idinpaint.report.reporting import build_report, face_report, versions
from idinpaint.scene import Scene, Work
from idinpaint.strategies import STRATEGIES
from idinpaint.types import Candidate, Decision, FaceAnalysis, InputError, Restoration, RestoreOptions


class Restorer:
    """Restores photos with one loaded model. Build it with `from_pretrained`."""

    def __init__(self, bundle: Any, analyzer: Any, inpainters: dict[str, Inpainter | None], device: str) -> None:
        # An analyzer of its own: another Restorer's controller must not change the weights of this one's features.
        self.bundle, self.analyzer, self.inpainters, self.device = bundle, copy(analyzer), inpainters, device
        self.identity = bundle.identity
        self.references = ReferenceReader(self.analyzer)
        self.believer = load_believer(bundle)
        judge, calibration = getattr(bundle, "independent", None), load_calibration()
        self.verifier = Verifier(self.identity, judge, calibration)
        self.calibration_notices = self.verifier.differences(bundle.weights)
        self.available = (*(name for name, row in STRATEGIES.items() if not row.module), *inpainters)
        self.use_controller(None)

    def use_controller(self, path: Any) -> None:
        """Takes the ladder of a YAML file, None for the package's own. Raises InputError for one that will not do."""
        self.ladder = None if path is None else str(path)
        self.controller: ControllerConfig = load_controller(path)
        self.analyzer.weights = self.controller.weights or FEATURE_WEIGHTS

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str = "default",
        device: Any = "auto",
        landmarks: str = "bundled",
        identity: str = "bundled",
        gan: str | None = None,
        dtype: Any = "auto",
        judge: str = "auto",
        painters: bool = True,
    ) -> Restorer:
        """The bundled model, a model or pipeline folder, or a hub id. Raises InputError when it cannot be loaded.

        landmarks: bundled or face-alignment; identity: bundled or insightface:PACK. A model trained on the bundled
        encoder paints only with that one; another serves `verify`, or a model trained with it. judge, the encoder that
        verifies what was painted: auto (SFace where it is there), sface, insightface:PACK or bundled.
        gan: a generator's name (pconv, pdgan, pdgan-face, encdec, lafin) or folder for the strategy `gan`.
        device, dtype: as devices.pick_device and pick_dtype take them; dtype is that of the networks that paint.
        painters: False loads what `analyze` and `verify` need, in half the time.
        """
        from idinpaint.faces.analyzer import FaceAnalyzer
        from idinpaint.loading.bundle import load_bundle
        from idinpaint.models.devices import pick_device, pick_dtype
        from idinpaint.painting.loading import load_inpainters

        device = pick_device(device)
        dtype = pick_dtype(dtype, device)
        bundle = load_bundle(name_or_path, device, landmarks, identity, dtype, judge, painters)
        analyzer = FaceAnalyzer(bundle.landmarker, bundle.parser, bundle.identity, bundle.store)
        return cls(bundle, analyzer, load_inpainters(bundle, gan, device, dtype), device)

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
        face_box: FaceBoxes = None,
        max_coverage: float | None = None,
        reference_pixels: bool = True,
        progress: Callable[[str], None] | None = None,
        grain: str = "auto",
    ) -> Restoration:
        """Restore one photo.

        image, references: path, PIL image or uint8 array [H, W, 3]; mask: path, PIL image or array [H, W],
        1 = hole. face_box: (x, y, w, h) photo px of a face, or several, beside those that are found. strategy: auto,
        telea, gan, prior, diffusion or colorize. max_coverage: share of the facial features in [0, 1] up to which a
        face is painted, instead of the ladder's limit. reference_pixels: the network may look at the reference photos
        while it paints, else they only guide and verify. grain: auto (the fill gets the photo's own) or none.
        Abstaining is a result: `.abstained`, with the hole left marked or only toned. Raises InputError for input
        that cannot be used.
        """
        options = RestoreOptions(strategy, num_samples, steps, seed, force, max_coverage, reference_pixels, grain)
        self._check(options)
        clock = StageClock(progress)
        rgb = as_rgb(image)
        hole = as_mask(mask, rgb.shape[:2], rgb)
        scene = self._find(rgb, hole, face_box, clock)
        with clock("reading references"):
            photos = [(_name(photo, i), as_rgb(photo)) for i, photo in enumerate(references)]
            refs = self.references.read(photos, *self.verifier.comparison(scene.faces))
        shared = share_out(refs, scene.faces, self.verifier)
        work = self._paint(scene, shared, options, clock)
        overall = self._finish(work, scene, options, clock)
        result = composite(work.picture, rgb, hole)
        overrides = _overrides(strategy=strategy, force=force, max_coverage=max_coverage, controller=self.ladder)
        decision = replace(overall, overrides=overrides)
        report = self._report(scene, work, decision, refs, shared, options, clock)
        return Restoration(result, work.candidates, decision, report, scene.faces, work.invented, work.look)

    def _find(self, rgb: np.ndarray, hole: np.ndarray, face_box: FaceBoxes, clock: StageClock) -> Scene:
        """Faces under the hole, and parts of it that may hide one."""
        known = rgb.copy()
        known[hole] = 0  # nothing under the mask is read from here on
        with clock("finding faces"):
            faces = self.analyzer.analyze(known, hole, face_box)
            swallowed = None if faces else swallowing_part(known, hole, self.analyzer.search)
            possible = Possible(np.zeros_like(hole), [])
            if swallowed is None:
                possible = look_for_faces(known, hole, faces, self.analyzer)
        return Scene(known, hole, faces, swallowed, possible)

    def _paint(self, scene: Scene, shared: list[References], options: RestoreOptions, clock: StageClock) -> Work:
        """The background coarsely, then every face: decided, painted, verified, pasted."""
        with clock("filling the background"):
            look = read_look(scene.known, scene.hole, options.seed, options.grain)
            analyzer = None if options.strategy == "telea" else self.analyzer
            backdrop = continue_background(
                scene.known, scene.hole, scene.faces, analyzer, options.seed, scene.possible.everyone
            )
        work = Work(backdrop.picture, look, backdrop.part)
        painter = Painter(self.inpainters, self.verifier, options.reference_pixels, self.believer, look.tint, backdrop)
        for face, refs in zip(scene.faces, shared, strict=True):
            decision = self._decide(face, scene.hole, refs, options)
            with clock("painting the face"):
                made = painter(face, decision, refs, options.num_samples, options.steps, options.seed)
            with clock("verifying"):
                crop = made[0].image if made else warp_to_crop(work.picture, None, face.crop_to_photo)[0]
                looked = made[0].looked if made else self.believer and self.believer(crop, face)
                checked = self.verifier.check(crop, face, refs, decision, made, looked)
                decision, checked = withhold(decision, checked)
            work.add(decision, made, checked)
            work.notices += wrong_person(checked) + near_threshold(face, self.controller, bool(refs))
            work.picture = self._deliver(work.picture, scene.hole, face, decision, made)
            work.picture = work.picture if decision.paints_no_face else backdrop.round(work.picture, scene.hole, face)
            if not decision.paints_no_face:
                work.invented = add_disagreement(work.invented, scene.hole, face, made)
        return work

    def _finish(self, work: Work, scene: Scene, options: RestoreOptions, clock: StageClock) -> Decision:
        """The background's last pass, tint and grain, and marks where a face may be hidden; the photo's decision."""
        hole = scene.hole
        background, unpainted = outside_faces(hole, scene.faces, work.decisions)
        if options.strategy != "telea":
            with clock("filling the background"):
                work.picture = refine_background(work.picture, background & ~work.continued, unpainted)
        with clock("matching tint and grain"):
            work.picture = work.look.finish(work.picture, hole & ~unpainted)
        overall = self._overall(work.decisions, scene, options.strategy, options.force)
        if scene.swallowed is not None and overall.strategy == "abstain":
            work.picture = mark_hole(work.picture, scene.swallowed)
        work.hidden = scene.hidden(options)
        if work.hidden:
            overall, work.picture = left_marked(overall, work.hidden), mark_hole(work.picture, scene.possible.marked)
        return overall

    def _report(
        self, scene: Scene, work: Work, decision: Decision, refs: References, shared: list[References],
        options: RestoreOptions, clock: StageClock,
    ) -> dict[str, Any]:  # fmt: skip
        """What report.schema.json describes."""
        rows = [
            {**face_report(*of_face), "place": face_place(of_face[0], scene.hole.shape), "references": served}
            for *of_face, served in zip(
                scene.faces, work.decisions, work.candidates, work.verifications, names_of(shared), strict=True
            )
        ]
        verdict = overall_verdict(work.verifications) or ("abstained" if decision.paints_no_face else None)
        notices = scene.notices() + refs.notices + work.notices + self.calibration_notices
        return build_report(
            decision, rows, verdict, notices, clock.seconds, hole_ratio=hole_ratio(scene.hole), seed=options.seed,
            num_samples=options.num_samples, steps=options.steps, references=reference_rows(refs),
            encoders=self.verifier.encoders(), device=self.device, versions=versions(), weights=self.bundle.weights,
            calibration=self.verifier.made(), possible_faces=work.hidden, print_look=work.look.said(),
        )  # fmt: skip

    def analyze(self, image: Any, mask: Any, face_box: FaceBoxes = None) -> tuple[list[FaceAnalysis], Decision]:
        """What is hidden of which face, and what `restore` would do; nothing is painted."""
        rgb = as_rgb(image)
        options = RestoreOptions()
        scene = self._find(rgb, as_mask(mask, rgb.shape[:2], rgb), face_box, StageClock(None))
        decisions = [self._decide(face, scene.hole, References(), options) for face in scene.faces]
        overall = self._overall(decisions, scene, options.strategy)
        hidden = scene.hidden(options)
        return scene.faces, left_marked(overall, hidden) if hidden else overall

    def verify(self, photo_a: Any, photo_b: Any) -> dict[str, Any]:
        """Same person? {similarity, threshold, verdict, text}. Raises InputError for a photo without a face."""
        embeds = []
        for index, photo in enumerate((photo_a, photo_b)):
            embeds.append(self.references.read_one(_name(photo, index), as_rgb(photo)).aligned)
        return {**self.verifier.same_person(*embeds).__dict__, "encoder": self.verifier.encoder.name}

    def _check(self, options: RestoreOptions) -> None:
        if None in self.inpainters.values():
            raise InputError("painters=False: this Restorer analyses and verifies; load one that paints")
        if options.strategy == "gan" and "gan" not in self.inpainters:
            raise InputError("strategy gan: this model has no generator; name a trained one with --gan FOLDER")
        if options.strategy not in ("auto", "telea", *self.inpainters):
            raise InputError(f"strategy {options.strategy}: use one of auto, telea, {', '.join(self.inpainters)}")
        if options.strategy != "telea":  # the others stand on the prior, which takes the identity too
            check_encoder(getattr(self.bundle, "pipeline", None), self.identity)
        if not 1 <= options.num_samples <= 64:
            raise InputError(f"num_samples {options.num_samples}: use 1 to 64")
        if options.steps is not None and not 1 <= options.steps <= 1000:
            raise InputError(f"steps {options.steps}: use 1 to 1000")
        if options.max_coverage is not None and not 0 <= options.max_coverage <= 1:
            raise InputError(f"max_coverage {options.max_coverage}: a share of the facial features, from 0 to 1")

    def _decide(self, face: FaceAnalysis, hole: np.ndarray, refs: References, options: RestoreOptions) -> Decision:
        decision = decide(
            face.coverage, face.face_coverage, hole_ratio(hole), bool(refs.embeds), self.controller, options.force,
            options.max_coverage, self.available, hidden_hair(face) >= TORN_HAIR,
        )  # fmt: skip
        if options.strategy == "auto":
            return decision
        overridden = decision.paints_no_face and options.strategy != "colorize"
        reason = f"strategy {options.strategy} chosen by the user"
        if overridden:
            reason += f", although {decision.reason}"
        decision = replace(decision, strategy=options.strategy, rule="user", reason=reason, unless_verified=None)
        return replace(decision, forced=decision.forced or overridden, instead_of=None)

    def _deliver(
        self, result: np.ndarray, hole: np.ndarray, face: FaceAnalysis, decision: Decision, made: list[Candidate]
    ) -> np.ndarray:
        """The photo with this face's part of the hole filled, toned or marked; Telea's fill may stay."""
        if decision.strategy == "abstain":
            inside = hole & crop_area(face, hole.shape)
            return composite(mark_hole(result, inside), result, inside)
        crop = made[0].image if made else None
        if decision.strategy == "colorize":
            crop = self.inpainters["colorize"].fill(FillRequest(face))[0]
        return result if crop is None else paste_crop(result, hole, crop, face.crop_to_photo)

    def _overall(self, decisions: list[Decision], scene: Scene, strategy: str, force: bool = False) -> Decision:
        if decisions:
            return max(decisions, key=lambda d: list(STRATEGIES).index(d.strategy))
        decision = decide({}, 0.0, hole_ratio(scene.hole), False, self.controller)
        if strategy != "auto":
            return replace(decision, rule="user", reason=f"no face; {decision.reason}")
        return abstained(decision, force) if scene.swallowed is not None else decision


def _overrides(**given: Any) -> dict[str, Any]:
    """What the user set against the controller."""
    return {name: value for name, value in given.items() if value not in (None, False, "auto")}


def _name(photo: Any, index: int) -> str:
    return str(photo) if isinstance(photo, str) or hasattr(photo, "__fspath__") else f"photo {index + 1}"
