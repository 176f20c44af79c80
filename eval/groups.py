"""Faces lost and false alarms in group pictures pasted from test people, with random sizes and holes.

    python eval/groups.py --data DATA --output runs/groups --pictures 100 --minutes 8

Resumable: a picture is a line of rows.jsonl; call it again until all are done. Lost: a face whose features the hole
touches that is neither found nor left marked. False alarm: a hole in the background that is marked or taken for a face.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from cases import SPLITS
from command import parser_of, run_main
from PIL import Image
from run_store import more_lines
from tables import markdown_table

from idinpaint.data.photos import load_landmarks, read_split
from idinpaint.faces.alignment import transform_points
from idinpaint.faces.features import coverage, feature_regions
from idinpaint.faces.heads import head
from idinpaint.faces.possible import possible_faces

TOUCHED = 0.02  # of some feature
KINDS = ("none", "stroke", "eyes", "mouth", "lower", "upper", "face", "head")


def backgrounds() -> list[np.ndarray]:
    """Pictures without a human face."""
    from skimage import data

    pictures = [data.coffee(), data.rocket(), data.chelsea(), data.brick(), data.grass(), data.gravel(), data.coins()]
    return [p if p.ndim == 3 else np.repeat(p[..., None], 3, 2) for p in pictures]


def face_hole(kind: str, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[256, 256] bool in the face's own picture; points [68, 2]."""
    hole = np.zeros((256, 256), np.uint8)
    eye, chin = points[36:48].mean(0), points[8]
    tall, wide = chin[1] - eye[1], np.ptp(points[:17, 0])
    x, y = eye.astype(int)
    if kind == "stroke":
        a, b = (points.mean(0) + rng.normal(0, 0.5, 2) * wide for _ in range(2))
        cv2.line(hole, tuple(a.astype(int)), tuple(b.astype(int)), 1, int(rng.integers(4, 16)))
    elif kind == "eyes":
        half = int(tall * rng.uniform(0.1, 0.35))
        hole[max(y - half, 0) : y + half] = 1
    elif kind == "mouth":
        middle = points[48:60].mean(0).astype(int)
        cv2.ellipse(hole, tuple(middle), (int(wide * 0.3), int(tall * 0.22)), 0, 0, 360, 1, -1)
    elif kind in ("lower", "upper"):
        line = int(eye[1] + tall * rng.uniform(0.2, 0.5))
        hole[line if kind == "lower" else 0 : 256 if kind == "lower" else line] = 1
    elif kind in ("face", "head"):
        grow = 0.62 if kind == "face" else 0.95
        middle = points[27:48].mean(0).astype(int)
        cv2.ellipse(hole, tuple(middle), (int(wide * grow), int(tall * grow * 1.5)), 0, 0, 360, 1, -1)
    return hole.astype(bool)


def make_group(index: int, people: list[str], data: Path, marks: dict, pictures: list[np.ndarray]) -> dict:
    """One picture, its hole, its faces (points in photo px, kind of hole) and its background holes."""
    rng = np.random.default_rng(index)
    sides = [int(s) for s in rng.integers(80, 257, rng.integers(2, 5))]
    width, height = sum(sides) + 40 * len(sides) + 200, max(sides) + 60
    base = pictures[rng.integers(len(pictures))]
    photo = cv2.resize(base, (width, height), interpolation=cv2.INTER_AREA)
    hole, faces, x = np.zeros((height, width), bool), [], 20
    for side in sides:
        while True:
            person = people[rng.integers(len(people))]
            files = sorted((data / "celeba_id256" / person).iterdir())
            file = files[rng.integers(len(files))]
            if (points := marks.get(f"{person}/{file.stem}", marks.get(f"{person}/{file.name}"))) is not None:
                break
        y = int(rng.integers(0, height - side + 1))
        picture = np.asarray(Image.open(file).convert("RGB").resize((256, 256)))
        photo[y : y + side, x : x + side] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        kind = KINDS[rng.choice(len(KINDS), p=(0.15, 0.2, 0.15, 0.15, 0.1, 0.1, 0.1, 0.05))]
        small = cv2.resize(face_hole(kind, points, rng).astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        hole[y : y + side, x : x + side] |= small > 0
        matrix = np.array([[side / 256, 0, x], [0, side / 256, y]], float)
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        own = cv2.warpAffine(hole.astype(np.uint8), matrix, (256, 256), flags=flags) > 0
        shares = coverage(feature_regions(points), own)
        faces.append({"kind": kind, "side": side, "matrix": matrix, "points": points, "touched": max(shares.values())})
        x += side + 40
    plain = np.zeros_like(hole)  # holes in the background, in the free strip at the right
    left = x + 20
    for _ in range(rng.integers(1, 3)):
        cx, cy = int(rng.integers(left, width - 20)), int(rng.integers(20, height - 20))
        spot = np.zeros(hole.shape, np.uint8)
        cv2.ellipse(spot, (cx, cy), (int(rng.integers(6, 50)), int(rng.integers(6, 60))), 0, 0, 360, 1, -1)
        spot[:, : left - 10] = 0
        plain |= spot > 0
    return {"photo": photo, "hole": hole | plain, "faces": faces, "plain": plain}


def score(group: dict, restorer) -> dict:
    """What was found, marked and lost of one group, and the evidence of each loose part."""
    photo, hole = group["photo"].copy(), group["hole"]
    photo[hole] = 0
    start = time.monotonic()
    found = restorer.analyzer.analyze(photo, hole)
    everyone = restorer.analyzer.everyone(photo, hole, found)
    looked = possible_faces(photo, hole, everyone, restorer.bundle.landmarker, restorer.bundle.parser)
    marked = looked.marked
    seconds = time.monotonic() - start
    centres = [transform_points(f.crop_to_photo, f.landmarks[27:].mean(0)) for f in everyone]
    rows, right = [], set()
    for face in group["faces"]:
        middle = transform_points(face["matrix"], face["points"][27:].mean(0))
        near = [i for i, c in enumerate(centres) if np.hypot(*(c - middle)) < 0.25 * face["side"]]
        right |= set(near)
        own = head(face["points"], face["matrix"], hole.shape) & hole
        covered = float(marked[own].mean()) if own.any() else 0.0
        near_wide = any(own[min(int(y), own.shape[0] - 1), min(int(x), own.shape[1] - 1)] for x, y in looked.wide)
        rows.append({"kind": face["kind"], "side": face["side"], "touched": round(face["touched"], 3),
                     "found": bool(near), "marked": round(covered, 2),
                     "noticed": near_wide})  # fmt: skip
    wrong = [i for i in range(len(centres)) if i not in right]
    return {"faces": rows, "wrong_faces": len(wrong), "plain": bool(group["plain"].any()),
            "plain_marked": float(marked[group["plain"]].mean()) if group["plain"].any() else 0.0,
            "seconds": round(seconds, 2)}  # fmt: skip


def summary(rows: list[dict]) -> str:
    """The table of the results."""
    faces = [f for row in rows for f in row["faces"] if f["touched"] >= TOUCHED]
    lines = []
    for kind in (*KINDS[1:], "all"):
        some = [f for f in faces if kind in ("all", f["kind"])]
        found = sum(f["found"] for f in some)
        marked = sum(not f["found"] and f["marked"] >= 0.5 for f in some)
        said = sum(not f["found"] and f["marked"] < 0.5 and f["noticed"] for f in some)
        lines.append([kind, len(some), found, marked, said, len(some) - found - marked - said])
    seconds = np.mean([r["seconds"] for r in rows])
    alarms, wrong = sum(r["plain_marked"] > 0 for r in rows), sum(r["wrong_faces"] for r in rows)
    head = ("hole", "faces", "found", "left marked", "only a notice", "lost")
    return "\n".join([
        f"{len(rows)} pictures, {len(faces)} damaged faces, {seconds:.2f} s a picture",
        *markdown_table(head, lines),
        f"background holes marked: {alarms} of {len(rows)}; faces found where none is: {wrong}",
    ])  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """The pictures that are missing, then the table."""

    def begin():
        from idinpaint import Restorer

        restorer, people = Restorer.from_pretrained(device="cpu"), read_split(SPLITS / "celeba_id256_test.txt")
        marks, pictures = load_landmarks(args.data), backgrounds()
        return lambda index: score(make_group(index, people, args.data, marks, pictures), restorer)

    print(summary(more_lines(args.output / "rows.jsonl", args.pictures, args.minutes, begin)))


def main(argv: list[str] | None = None) -> int:
    """Goes on where the last call stopped, for some minutes."""
    parser = parser_of(__doc__, "--data", "--output", "--minutes")
    parser.add_argument("--pictures", type=int, default=100)
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
