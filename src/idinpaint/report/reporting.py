"""The JSON-ready report of a restoration, and the same in words."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from idinpaint import __version__
from idinpaint.judging.ranking import disagreement
from idinpaint.strategies import STRATEGIES, UNPAINTED
from idinpaint.types import PICKED, Candidate, Decision, FaceAnalysis

SCHEMA_VERSION = "1.1"  # of report.schema.json: the first number changes when a reader must
MOSTLY = 0.5  # of a feature under the mask: what is painted there is invented
TOUCHED = 0.02  # of it, below which nobody would call it hidden
MUCH = 8.0  # grey levels between the tries, on average over the hole


def report_schema() -> dict[str, Any]:
    """report.schema.json, with the names of the strategies."""
    schema = json.loads(Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
    schema["$defs"]["decision"]["properties"]["strategy"] = {"enum": list(STRATEGIES)}
    return schema


def face_report(
    face: FaceAnalysis,
    decision: Decision | None = None,
    candidates: Sequence[Candidate] = (),
    verification: Any = None,
) -> dict[str, Any]:
    """What the report says of one face; candidates best first, verification a Verification or None."""
    painted = decision is not None and not decision.paints_no_face and bool(candidates) and face.crop_mask.any()
    spread = disagreement(candidates, face.crop_mask) if painted else None
    hidden = [name for name, share in face.coverage.items() if share >= MOSTLY]
    return {
        "box": [float(v) for v in face.box],
        "coverage": dict(face.coverage),
        "face_coverage": face.face_coverage,
        "face_coverage_interval": face.coverage_interval,
        "landmark_confidence": float(np.mean(face.landmark_confidence)),
        "identity_readable": face.id_embed is not None,
        "decision": decision,
        "candidates": [_candidate_row(c) for c in candidates],
        "invented": {
            "features": hidden if painted else [],
            "disagreement_mean": None if spread is None else float(spread[face.crop_mask].mean()),
            "disagreement_max": None if spread is None else float(spread.max()),
        },
        "verification": verification,
    }


def _candidate_row(candidate: Candidate) -> dict[str, Any]:
    names = (
        "believable",
        "painter",
        "seed",
        "identity_similarity",
        "seam",
        "landmark_shift",
        "apart",
        "reason",
        "shown",
    )
    return {name: getattr(candidate, name) for name in names}


def build_report(
    decision: Decision,
    rows: Sequence[Mapping[str, Any]] = (),
    verdict: str | None = None,
    notices: Sequence[str] = (),
    seconds: Mapping[str, float] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """The restoration's report, JSON-ready; report.schema.json describes it.

    rows: `face_report` of each face. verdict: the most cautious one over the faces, None without a face. status is
    restored or abstained. seconds: stage name -> time. extra: further top-level entries; arrays, paths and
    dataclasses are turned into plain values.
    """
    report = {
        "schema_version": SCHEMA_VERSION,
        "status": "abstained" if decision.paints_no_face else "restored",
        "verdict": verdict,
        "decision": decision,
        "faces": list(rows),
        "notices": list(notices),
        "seconds": dict(seconds or {}),
        **extra,
    }
    return to_plain(report)


def versions() -> dict[str, str]:
    """Of the package, Python and the libraries that the result depends on."""
    from importlib import metadata

    found = {"idinpaint": __version__, "python": platform.python_version()}
    for name in ("torch", "diffusers", "numpy", "opencv-contrib-python-headless", "opencv-python"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def verdict_words(report: Mapping[str, Any]) -> str:
    """The photo's verdict: not verified; empty where no face was judged."""
    return (report.get("verdict") or "").replace("_", " ")


def headline(report: Mapping[str, Any]) -> str:
    """What became of the photo: restored; 2 of 3 faces restored; not restored."""
    faces = report["faces"]
    hidden = len(report.get("possible_faces", []))
    left = sum(face["decision"]["strategy"] in UNPAINTED for face in faces if face["decision"])
    more = f", and {hidden} place{'s' * (hidden > 1)} left marked that may hide a face" if hidden else ""
    if len(faces) > 1:
        return f"{len(faces) - left} of {len(faces)} faces restored{more}"
    if faces and left:
        tone = faces[0]["decision"]["strategy"] == "colorize"
        return f"abstained, the hole is {'only given a smooth tone' if tone else 'left marked'}{more}"
    if report["status"] == "abstained" and not faces:
        return "abstained, the hole is left marked"
    return f"restored{more}"


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """The report in a photographer's words, a line a fact, for the terminal; figures stay in the report."""
    lines = []
    for number, face in enumerate(report["faces"], 1):
        where = f" ({face['place']})" if face.get("place") and len(report["faces"]) > 1 else ""
        lines.append(f"face {number}{where}: {hidden_words(face['coverage'])}")
        if face["invented"]["features"]:
            spread = face["invented"]["disagreement_mean"]
            alike = (
                "are much alike there, which does not make it true" if (spread or 0.0) <= MUCH else "differ a lot there"
            )
            more = "" if spread is None else f"; the tries {alike}"
            lines.append(f"  invented: {_listed(face['invented']['features'])}{more}")
        if face["candidates"]:
            lines += _kept_lines(face["candidates"])
        if face["verification"]:
            lines.append(f"  {face['verification']['verdict'].replace('_', ' ')}: {face['verification']['text']}")
            advice = next_step(face["verification"], bool(face.get("references")), face["decision"])
            lines += [f"  next: {advice}"] if advice else []
        elif face["candidates"] and face["candidates"][0].get("reason") == PICKED:
            lines.append("  not verified: nobody has compared what was picked by hand")
    return lines


def hidden_words(shares: Mapping[str, float]) -> str:
    """feature -> share hidden, in words: right eye hidden; nose, mouth in part."""
    features = {name: share for name, share in shares.items() if name != "skin"}
    shares = features if max(features.values(), default=0.0) >= TOUCHED else shares
    whole = [name for name, share in shares.items() if share >= MOSTLY]
    part = [name for name, share in shares.items() if TOUCHED <= share < MOSTLY]
    said = [f"{_listed(whole)} hidden"] * bool(whole) + [f"{_listed(part)} hidden in part"] * bool(part)
    return "; ".join(said) or "no feature is hidden"


def _kept_lines(candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which try was kept, who painted it and after which photos."""
    kept, tries = candidates[0], len(candidates)
    best = f"the best of {tries} tries (--candidate 2 is the next)" if tries > 1 else "one try"
    best = f"one of {tries} tries, picked by hand" if kept.get("reason") == PICKED else best
    lines = [f"  kept: {best}" + (f", painted by {kept['painter']}" if kept["painter"] else "")]
    return [*lines, f"  painted after {', '.join(kept['shown'])}"] if kept["shown"] else lines


def _listed(names: Sequence[str]) -> str:
    """left_eye, nose -> left eye, nose; both eyes, or brows, in one."""
    words = [name.replace("_", " ") for name in names]
    for pair in ("eye", "brow"):
        if f"left {pair}" in words and f"right {pair}" in words:
            words[words.index(f"left {pair}")] = f"both {pair}s"
            words.remove(f"right {pair}")
    return ", ".join(words)


def next_step(verification: Mapping[str, Any], referenced: bool, decision: Mapping[str, Any] | None) -> str:
    """What a photographer can do next with a face that is not verified; empty where there is nothing to do."""
    verdict, looked = verification["verdict"], verification["believability"]
    if verdict in ("verified", "plausible"):
        return ""
    if verdict != "abstained" and looked and looked["failed"]:
        more = "" if referenced else ", or show it a photo of the person with --reference"
        if decision is not None and decision.get("strategy") == "telea":  # which has one try, and the same again
            return f"a network may hit it: --strategy diffusion{more}"
        return f"more tries may hit it: --num-samples 16 or another --seed{more}"
    if not referenced:
        forced = decision is not None and decision["forced"]
        tail = "; --force paints a guess" if verdict == "abstained" and not forced else ""
        return f"a photo of the person lets it be verified: --reference{tail}"
    return "another photo of the person, taken from the same side, may agree better: --reference, again"


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
