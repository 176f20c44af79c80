"""Identity verification: similarity, calibrated verdict, and the JSON-ready report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from idinpaint.types import Candidate, Decision, FaceAnalysis

UNCERTAIN_MARGIN = 0.05  # similarities this near to the threshold decide nothing


@dataclass(frozen=True)
class Verdict:
    """similarity in [-1, 1]; verdict is same, different or uncertain; text says it in words."""

    similarity: float
    threshold: float
    verdict: str
    text: str

    @property
    def same(self) -> bool:
        return self.verdict == "same"


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two identity vectors [D], in [-1, 1]. ValueError for other shapes, zero or not finite vectors."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"similarity: two vectors of one length are needed, got shapes {a.shape} and {b.shape}")
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not (math.isfinite(norm) and norm > 0):
        raise ValueError("similarity: a vector is zero or not finite")
    return float(np.clip(a @ b / norm, -1.0, 1.0))


def verdict_for(similarity: float, threshold: float, margin: float = UNCERTAIN_MARGIN) -> Verdict:
    """same at or above threshold + margin, different below threshold - margin, else uncertain."""
    if not math.isfinite(similarity):
        raise ValueError(f"verdict_for: similarity is {similarity}")
    relation = f"similarity {similarity:.2f}, threshold {threshold:.2f}"
    if similarity >= threshold + margin:
        name, words = "same", "the same person"
    elif similarity < threshold - margin:
        name, words = "different", "different persons"
    else:
        name, words = "uncertain", "too close to call"
    return Verdict(float(similarity), float(threshold), name, f"{words} ({relation})")


def best_reference(embed: np.ndarray, references: Sequence[np.ndarray]) -> float:
    """Similarity of embed [D] to the normalised mean of reference vectors [D]. Raises ValueError without any."""
    if not len(references):
        raise ValueError("best_reference: no reference vectors")
    return similarity(embed, np.mean(np.stack(references), axis=0))


def face_report(
    face: FaceAnalysis, candidates: Sequence[Candidate] = (), verdict: Verdict | None = None
) -> dict[str, Any]:
    """What the report says of one face; candidates best first."""
    return {
        "box": [float(v) for v in face.box],
        "coverage": dict(face.coverage),
        "face_coverage": face.face_coverage,
        "landmark_confidence": float(np.mean(face.landmark_confidence)),
        "identity_readable": face.id_embed is not None,
        "candidates": [{"seed": c.seed, "identity_similarity": c.identity_similarity} for c in candidates],
        "verdict": verdict,
    }


def build_report(
    decision: Decision,
    faces: Sequence[FaceAnalysis] = (),
    candidates: Sequence[Sequence[Candidate]] = (),
    verdicts: Sequence[Verdict | None] = (),
    notices: Sequence[str] = (),
    seconds: Mapping[str, float] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """The restoration's report: JSON-ready.

    verdicts and candidates go face by face (missing ones: none). status is restored or abstained. seconds: stage
    name -> time. extra: further top-level entries (input names, seed, versions); arrays, paths and dataclasses are
    turned into plain values.
    """
    rows = []
    for index, face in enumerate(faces):
        verdict = verdicts[index] if index < len(verdicts) else None
        rows.append(face_report(face, candidates[index] if index < len(candidates) else (), verdict))
    report = {
        "status": "abstained" if decision.paints_no_face else "restored",
        "decision": decision,
        "faces": rows,
        "notices": list(notices),
        "seconds": dict(seconds or {}),
        **extra,
    }
    return to_plain(report)


def to_plain(value: Any) -> Any:
    """Plain JSON values: arrays become lists, dataclasses dicts, paths text, numbers rounded, NaN and inf None."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, (list, tuple, set)):
        return [to_plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return round(float(value), 6) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
