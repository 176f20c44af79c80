"""Puts a model folder together: face networks, identity encoder and pipeline, checked against its manifest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idinpaint.models.devices import pick_dtype
from idinpaint.models.weights import DOWNLOADS, SFACE_FILE, WeightStore, check_finite, first_line, hashes, user_folder
from idinpaint.types import InputError

PIPELINE = "pipeline"
DEFAULT_GAN = "pdgan-face"
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")  # a repository, and the revision to take


@dataclass
class Bundle:
    """The loaded parts; pipeline is an IdentityInpaintPipeline, None where it was not asked for."""

    store: WeightStore
    landmarker: Any
    parser: Any
    identity: Any
    pipeline: Any
    pipeline_folder: Path
    weights: dict[str, str]  # file -> sha256
    independent: Any = None  # an encoder that neither conditions nor trains: judges the result


def resolve_model(name_or_path: str) -> tuple[WeightStore, Path]:
    """(store of the face networks, pipeline folder) for `default`, a model folder, a pipeline folder or a hub id.

    OWNER/NAME@REVISION pins a hub id; without it the newest is taken, whose sha256s the report names. A folder with
    weights.json is a whole model; one with model_index.json brings the pipeline only.
    """
    if name_or_path == "default":
        store = WeightStore()
        return store, store.folder / PIPELINE
    folder = Path(name_or_path)
    if not folder.is_dir() and (repository := HUB_ID.fullmatch(name_or_path)):
        if folder.parent.is_dir():  # a slip of the keyboard, not a question to the network
            raise InputError(f"--model {name_or_path}: no such folder, though {folder.parent}/ is here")
        folder = _from_hub(*repository.groups())
    if (folder / "weights.json").is_file():
        return WeightStore(folder), folder / PIPELINE
    if (folder / "model_index.json").is_file():
        return WeightStore(), folder
    raise InputError(f"--model {name_or_path}: neither a model folder (weights.json) nor a pipeline (model_index.json)")


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--model {name}: no such folder, and the hub does not give it ({first_line(error)})"
        ) from error


def find_gan(model_folder: Path, name: str | None) -> Path | None:
    """Folder of a generator: a system's name in the model folder's gan/, or a folder that training wrote.

    None takes the default one, and gives None where the model has none. Raises InputError for one that is not there.
    """
    folder = model_folder / "gan" / (name or DEFAULT_GAN)
    if not (folder / "config.json").is_file() and name is not None:
        folder = Path(name)
    if (folder / "config.json").is_file():
        return folder
    if name is None:
        return None
    there = ", ".join(sorted(p.parent.name for p in (model_folder / "gan").glob("*/config.json"))) or "none"
    raise InputError(f"--gan {name}: neither a generator of this model (it has: {there}) nor a generator's folder")


def load_bundle(
    name_or_path: str = "default",
    device: str = "cpu",
    landmarks: str = "bundled",
    identity: str = "bundled",
    dtype: Any = "auto",
    judge: str = "auto",
    painters: bool = True,
) -> Bundle:
    """Load every part onto `device`, the pipeline as `dtype` (devices.pick_dtype); painters: False leaves that out.

    Raises InputError when a file is missing or its sha256 differs.

    landmarks: bundled or face-alignment; identity: bundled, or insightface:PACK, PACK being a pack's name
    (buffalo_l), a folder or an ONNX file; judge: see load_judge.
    """
    store, pipeline_folder = resolve_model(name_or_path)
    digests = hashes(pipeline_folder, PIPELINE)
    if pipeline_folder.is_relative_to(store.folder):
        for name in store.manifest:
            store.checked(name)
        if unlisted := [name for name in digests if name not in store.manifest]:
            raise InputError(f"{store.folder / unlisted[0]}: weights.json does not list it; take it away")
    landmarker, parser, encoder = load_faces(store, device, landmarks, identity)
    return Bundle(
        store=store,
        landmarker=landmarker,
        parser=parser,
        identity=encoder,
        pipeline=load_pipeline(pipeline_folder, device, dtype) if painters else None,
        pipeline_folder=pipeline_folder,
        weights=_face_weights(store) | digests,
        independent=None if judge == identity else load_judge(store, judge, device),
    )


def _face_weights(store: WeightStore) -> dict[str, str]:
    """Of the face networks, file -> sha256; pipeline and generator may come from elsewhere and are hashed as loaded."""
    return {name: entry["sha256"] for name, entry in store.manifest.items() if "/" not in name}


def load_faces(
    store: WeightStore, device: str = "cpu", landmarks: str = "bundled", identity: str = "bundled"
) -> tuple[Any, Any, Any]:
    """(landmarker, parser, identity encoder) without the pipeline; the names as in `load_bundle`."""
    from idinpaint.faces.identity import BundledEncoder, InsightFaceEncoder
    from idinpaint.faces.landmarks import FaceAlignmentLandmarker, Landmarker
    from idinpaint.faces.parsing import FaceParser
    from idinpaint.models.face_maps import FaceMaps
    from idinpaint.models.id_encoder import IdentityNet

    def build(kind: type, name: str):
        config, state = store.load(name)
        threshold = config.pop("threshold", None)
        try:
            net = kind(**config)
            net.load_state_dict(state)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(f"{store.folder / name}: is not a {kind.__name__} ({first_line(error)})") from error
        return net if threshold is None else (net, threshold)

    kind, _, pack = identity.partition(":")
    if kind not in ("bundled", "insightface") or landmarks not in ("bundled", "face-alignment"):
        raise InputError(
            f"--identity {identity}, --landmarks {landmarks}: use bundled or insightface:PACK; bundled or "
            "face-alignment"
        )
    own = landmarks == "bundled"
    landmarker = (
        Landmarker(build(FaceMaps, "landmarks.safetensors"), device) if own else FaceAlignmentLandmarker(device)
    )
    if kind == "bundled":
        net = build(IdentityNet, "identity.safetensors")
        if not isinstance(net, tuple):
            raise InputError(f"{store.folder}: weights.json gives identity.safetensors no threshold; restore the file")
        encoder = BundledEncoder(*net, device, store.manifest["identity.safetensors"]["sha256"])
    else:
        encoder = InsightFaceEncoder(pack or "buffalo_l", device)
    return landmarker, FaceParser(build(FaceMaps, "parsing.safetensors"), device), encoder


def load_judge(store: WeightStore, judge: str = "auto", device: str = "cpu") -> Any:
    """The encoder that verifies, None where the one that conditions does.

    judge: auto (SFace, where its file lies in the model's or the user's folder), sface, insightface:PACK or bundled.
    Raises InputError for one that is not there.
    """
    from idinpaint.faces.identity import InsightFaceEncoder, SFaceEncoder

    kind, _, pack = judge.partition(":")
    if kind == "insightface":
        return InsightFaceEncoder(pack or "buffalo_l", device)
    if judge not in ("auto", "sface", "bundled"):
        raise InputError(f"--judge {judge}: use auto, sface, insightface:PACK or bundled")
    path = None if judge == "bundled" else store.find(SFACE_FILE)
    if judge == "sface" and path is None:
        raise InputError(
            f"--judge sface: {SFACE_FILE} is not in {user_folder()}; `idinpaint download sface` fetches it"
        )
    return None if path is None else SFaceEncoder(path, DOWNLOADS[SFACE_FILE][1])


def load_pipeline(folder: Path, device: str = "cpu", dtype: Any = "auto"):
    """The pipeline of a folder in diffusers' layout (IdentityInpaintPipeline, or its sibling on Stable Diffusion),
    as `dtype` (devices.pick_dtype). Raises InputError when it cannot be loaded."""
    import json
    from importlib.util import find_spec

    from diffusers.utils import logging

    from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline

    logging.disable_progress_bar()
    try:
        kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{folder}: not a pipeline, its model_index.json cannot be read ({first_line(error)})"
        ) from error
    if kind not in ("IdentityInpaintPipeline", "IdentitySDInpaintPipeline"):
        raise InputError(f"{folder}: is a {kind}; fine-tune it first (configs/diffusion-sd15-inpaint.yaml)")
    if kind == "IdentitySDInpaintPipeline" and find_spec("transformers") is None:
        raise InputError(f"{folder}: this model reads prompts; pip install 'idinpaint[sd]'")
    precision = pick_dtype(dtype, device)
    try:
        pipeline = IdentityInpaintPipeline.from_pretrained(
            folder, dtype=precision, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # diffusers raises whatever a damaged file or a foreign config leads to
        raise InputError(f"{folder}: not a loadable pipeline ({first_line(error)})") from error
    for name, part in pipeline.components.items():
        if hasattr(part, "state_dict") and hasattr(part, "parameters"):
            check_finite(part.state_dict(), folder / name)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
