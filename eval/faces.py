"""Score the face networks on held-out people and photos: hidden landmarks, identity encoder, skin parsing.

    python eval/faces.py --data DATA --output runs/faces.json [--only landmarks identity parsing]
    python eval/faces.py ... --identity full=runs/identity-full/identity.safetensors --identity teacher=FILE.pt

Without checkpoints the bundled networks are scored, as the Restorer runs them. PROTOCOL.md defines the numbers.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import SPLITS, BenchmarkConfig, holed, plan_items, read_mask
from command import parser_of, run_main, write_json
from estimates import estimate
from PIL import Image
from set_scores import pair_owners, rank_below, split_pairs

from idinpaint.data.photos import list_identity_folders, load_landmarks, load_photos, read_split
from idinpaint.faces.identity import hide
from idinpaint.types import CROP_SIZE

PARTS = ("landmarks", "identity", "parsing")
MASK_BINS = ("10-20", "20-30", "30-40")
BOOTSTRAP = 1000
# CelebAMask-HQ parts drawn over the skin, in the data set's own order of composition (ears count as skin here).
OVER_SKIN = ("nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r")
OVER_SKIN += ("neck_l", "neck", "cloth")

Embed = Callable[[list[np.ndarray]], np.ndarray]  # 112 px uint8 RGB faces, hidden pixels grey -> unit vectors [B, D]


def hidden_points(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """bool [68]: the points [68, 2] (x, y) px that lie under the mask."""
    x, y = np.clip(np.rint(points), 0, mask.shape[0] - 1).astype(int).T
    return mask[y, x]


def mean_shape(points: dict[str, np.ndarray], test_people: set[str]) -> np.ndarray:
    """[68, 2] mean of the aligned photos of people outside of the test split: the guess that sees nothing."""
    others = [p for key, p in points.items() if "/" in key and key.split("/")[0] not in test_people]
    return np.mean(others, axis=0)


def score_landmarks(landmarker, data: Path, images: int, seed: int) -> dict[str, object]:
    """Mean distance of hidden and visible points in per cent of the outer eye corners' distance, 20-30 % masks."""
    config = BenchmarkConfig(methods=(), bins=("20-30",), max_images=images, seed=seed)
    truth = load_landmarks(data)
    baseline = mean_shape(truth, set(read_split(SPLITS / "celeba_id256_test.txt")))
    columns: dict[str, list[float]] = {name: [] for name in ("hidden", "visible", "unmasked", "mean_shape_hidden")}
    columns["hidden_by_inter_pupil"], people = [], []
    for load in plan_items(config, data):
        item = load()
        points = truth[item.entry.key]
        eyes = np.linalg.norm(points[36] - points[45])
        pupils = np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0))
        masked = np.linalg.norm(landmarker.predict(holed(item.photo, item.mask), item.mask)[0] - points, axis=1)
        whole = np.linalg.norm(landmarker.predict(item.photo, np.zeros_like(item.mask))[0] - points, axis=1)
        hidden = hidden_points(points, item.mask)
        guess = np.linalg.norm(baseline - points, axis=1)
        for own, errors, unit in zip(
            columns.values(),
            (masked[hidden], masked[~hidden], whole, guess[hidden], masked[hidden]),
            (eyes, eyes, eyes, eyes, pupils),
        ):
            own.append(100 * errors.mean() / unit if errors.size else np.nan)
        people.append(item.entry.person)
    scores = {f"nme_percent_{k}": estimate(np.array(v), people, BOOTSTRAP).rounded() for k, v in columns.items()}
    return {"photos": len(people), "people": len(set(people)), **scores}


def best_threshold(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """The threshold of the highest balanced accuracy."""
    steps = np.linspace(-1, 1, 2001)
    accept = 1 - np.searchsorted(np.sort(genuine), steps) / len(genuine)
    reject = np.searchsorted(np.sort(impostor), steps) / len(impostor)
    return float(steps[np.argmax(accept + reject)])


def accuracy_by_folds(cosine: np.ndarray, person: np.ndarray, folds: int = 10) -> float:
    """Balanced accuracy over all pairs within each fold of people, threshold from the other folds."""
    fold = np.unique(person, return_inverse=True)[1] % folds
    scores = []
    for number in range(folds):
        inner, outer = fold == number, fold != number
        threshold = best_threshold(*split_pairs(cosine[np.ix_(outer, outer)], person[outer]))
        genuine, impostor = split_pairs(cosine[np.ix_(inner, inner)], person[inner])
        scores.append(((genuine >= threshold).mean() + (impostor < threshold).mean()) / 2)
    return float(np.mean(scores))


def score_identity(embed: Embed, data: Path, seed: int, threshold: float | None = None) -> dict[str, object]:
    """Verification of unseen people, and what masks do to their embeddings."""
    held = set(read_split(SPLITS / "celeba_id112_test.txt"))
    entries = [e for e in list_identity_folders(data / "celeba_id112") if e.person in held]
    faces, person = load_photos(entries, 112), np.array([e.person for e in entries])
    full = embed(list(faces))
    cosine = full @ full.T
    genuine, impostor = split_pairs(cosine, person)
    owners = pair_owners(person)
    scores: dict[str, object] = {
        "photos": len(faces),
        "people": len(held),
        "auc": estimate(rank_below(genuine, impostor), owners, BOOTSTRAP).rounded(),
        "accuracy_10_folds": round(accuracy_by_folds(cosine, person), 4),
        "mean_cosine_same": round(float(genuine.mean()), 4),
        "mean_cosine_different": round(float(impostor.mean()), 4),
    }
    if threshold is not None:
        scores["threshold"] = threshold
        scores["accuracy_at_threshold"] = round(
            float(((genuine >= threshold).mean() + (impostor < threshold).mean()) / 2), 4
        )
    names = read_split(SPLITS / "nvidia_masks_test.txt")
    for bin_name in MASK_BINS:
        masks = [read_mask(data / "nvidia_irregular_masks" / n, 112) for n in names if n.startswith(bin_name + "/")]
        choice = np.random.default_rng(seed).integers(0, len(masks), len(faces))
        masked = embed([hide(face, masks[m]) for m, face in zip(choice, faces, strict=True)])
        scores[f"masked_to_full_cosine_{bin_name}"] = estimate((masked * full).sum(1), person, BOOTSTRAP).rounded()
        across = masked @ full.T
        same = person[:, None] == person[None]
        other = same & ~np.eye(len(person), dtype=bool)  # the masked photo against OTHER photos
        scores[f"masked_auc_{bin_name}"] = round(float(rank_below(across[other], across[~same]).mean()), 4)
    return scores


def true_skin(root: Path, number: int) -> np.ndarray:
    """bool [256, 256]: face skin and ears of one CelebAMask-HQ photo, less what covers them."""
    folder = root / "CelebAMask-HQ-mask-anno" / str(number // 2000)

    def part(name: str) -> np.ndarray:
        path = folder / f"{number:05d}_{name}.png"
        if not path.is_file():
            return np.zeros((CROP_SIZE, CROP_SIZE), bool)
        with Image.open(path) as image:
            return np.asarray(image.convert("L").resize((CROP_SIZE, CROP_SIZE), Image.Resampling.NEAREST)) > 127

    skin = part("skin") | part("l_ear") | part("r_ear")
    return skin & ~np.any([part(name) for name in OVER_SKIN], axis=0)


def score_parsing(parser, data: Path, seed: int) -> dict[str, object]:
    """Skin IoU of held-out photos: without a mask, and under 20-30 % masks (hidden skin included)."""
    from idinpaint.faces.parsing import PARSING_CLASSES

    root, skin = data / "CelebAMask-HQ", PARSING_CLASSES.index("skin")
    names = [n for n in read_split(SPLITS / "nvidia_masks_test.txt") if n.startswith("20-30/")]
    numbers = [int(n) for n in read_split(SPLITS / "celebamask_test.txt")]
    order = np.random.default_rng(seed).permutation(len(numbers))
    results: dict[str, list[float]] = {"skin_iou": [], "skin_iou_masked_20-30": []}
    for position, number in zip(order, numbers, strict=True):
        with Image.open(root / "CelebA-HQ-img" / f"{number}.jpg") as image:
            photo = np.array(image.convert("RGB").resize((CROP_SIZE, CROP_SIZE), Image.Resampling.LANCZOS))
        truth = true_skin(root, number)
        mask = read_mask(data / "nvidia_irregular_masks" / names[position % len(names)])
        for name, hole in (("skin_iou", np.zeros_like(mask)), ("skin_iou_masked_20-30", mask)):
            found = parser.predict(holed(photo, hole), hole) == skin
            results[name].append((found & truth).sum() / max(1, (found | truth).sum()))
    photos = [str(n) for n in numbers]  # one person each as far as is known
    return {
        "photos": len(numbers),
        **{k: estimate(np.array(v), photos, BOOTSTRAP).rounded() for k, v in results.items()},
    }


def filled(net, path: Path):
    """The network with a training run's safetensors file, in float32."""
    from safetensors.torch import load_file

    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return net


def in_batches(encoder, size: int = 64) -> Embed:
    """The encoder's embed, `size` faces at a time."""
    return lambda faces: np.concatenate([encoder.embed(faces[i : i + size]) for i in range(0, len(faces), size)])


def checkpoint_encoder(path: Path):
    """The bundled encoder's class over a training run (safetensors) or over the teacher (.pt)."""
    from idinpaint.faces.identity import BundledEncoder
    from idinpaint.models.id_encoder import IdentityNet
    from idinpaint.models.teachers import load_mobilefacenet

    net = load_mobilefacenet(path) if path.suffix == ".pt" else filled(IdentityNet(), path)
    return BundledEncoder(net, threshold=float("nan"))


def scores_of(args: argparse.Namespace) -> dict[str, object]:
    """Score what was asked for; the Restorer is loaded only when a part has no checkpoint."""
    import idinpaint
    from idinpaint.faces.landmarks import Landmarker
    from idinpaint.faces.parsing import PARSING_CLASSES, FaceParser
    from idinpaint.models.face_maps import FaceMaps

    analyzer = functools.cache(lambda: idinpaint.Restorer.from_pretrained(args.model, device=args.device).analyzer)
    report: dict[str, object] = {"seed": args.seed}
    if "landmarks" in args.only:
        own = args.landmarks and Landmarker(filled(FaceMaps(68), args.landmarks))
        report["landmarks"] = score_landmarks(own or analyzer().landmarker, args.data, args.images, args.seed)
    if "parsing" in args.only:
        own = args.parsing and FaceParser(filled(FaceMaps(len(PARSING_CLASSES)), args.parsing))
        report["parsing"] = score_parsing(own or analyzer().parser, args.data, args.seed)
    if "identity" in args.only:
        for name, _, path in (item.rpartition("=") for item in args.identity):
            encoder = in_batches(checkpoint_encoder(Path(path)))
            report[f"identity {name or path}"] = score_identity(encoder, args.data, args.seed)
        if not args.identity:
            encoder = analyzer().identity
            report["identity"] = score_identity(in_batches(encoder), args.data, args.seed, float(encoder.threshold))
    return report


def run(args: argparse.Namespace) -> None:
    """Print the JSON and write it."""
    scores = scores_of(args)
    print(json.dumps(scores, indent=1))
    if args.output:
        write_json(args.output, scores)


def main(argv: list[str] | None = None) -> int:
    """Parse, score, print the JSON and write it."""
    parser = parser_of(__doc__, "--data", "--model", "--device", "--seed")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--images", type=int, default=200, help="photos of the landmark score")
    parser.add_argument("--landmarks", type=Path, help="checkpoint in place of the bundled network")
    parser.add_argument("--parsing", type=Path, help="checkpoint in place of the bundled network")
    parser.add_argument("--identity", action="append", default=[], metavar="NAME=FILE", help="checkpoint(s) to compare")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
