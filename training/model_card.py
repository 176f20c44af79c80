"""The model card that goes with a trained pipeline, and its way to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoints import written
from huggingface_hub import HfApi, ModelCard, ModelCardData

from idinpaint.types import InputError

TEXT = """
# {title}

Fills the hole of a damaged portrait and keeps the person: conditioned on the landmarks predicted from the masked
photo, and on an identity vector from other photos of the person or from what is visible of the face.

- **Base**: {base}
- **Trained with**: `{command}` at commit `{commit}`, {steps} steps of {batch} images a process, seed {seed}
- **Losses at the last logged step**: {losses}

## Use

    idinpaint restore photo.jpg --mask mask.png -o restored.png --model {where}

```python
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline

pipeline = IdentityInpaintPipeline.from_pretrained("{where}")
```

## Limits

A restored face is a likely one, not evidence of how the person looked: never use it to identify anybody. It runs
without a safety checker. The weights carry the terms of the base model and of the photos that they were trained on.

## Configuration

| key | value |
|---|---|
{rows}
"""


def write_model_card(folder: str | Path, run: dict[str, Any], base: str, where: str, losses: dict[str, float]) -> Path:
    """Write README.md into a pipeline folder.

    run: {"config": ..., "commit": ..., "command": ...} as run.json holds it; base: hub id or a word for ours;
    where: folder or hub id by which it is loaded; losses: name -> value, in the log's order.
    """
    config = run["config"]
    # A path is of no use to a reader, and shows the machine that it was trained on.
    shown = {key: value for key, value in config.items() if not (isinstance(value, str) and "/" in value)}
    on_hub = "/" in base and not Path(base).exists()
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="image-to-image",
        license="other",
        base_model=base if on_hub else None,
        tags=["inpainting", "face-restoration", "identity", "idinpaint"],
    )
    text = TEXT.format(
        title=where.rstrip("/").split("/")[-1] if on_hub or "/" not in where else "Identity-preserving inpainting",
        base=base if on_hub or "/" not in base else Path(base).name,
        command=run["command"], commit=run["commit"] or "unknown", steps=config["max_train_steps"],
        batch=config["train_batch_size"], seed=config["seed"], where=where,
        losses=", ".join(f"{name} {value:.4g}" for name, value in losses.items()) or "none logged",
        rows="\n".join(f"| `{key}` | {value} |" for key, value in sorted(shown.items())),
    )  # fmt: skip
    path = Path(folder) / "README.md"
    with written(path) as temporary:
        ModelCard(f"---\n{data.to_yaml()}\n---\n{text}").save(temporary)
    return path


def push(folder: str | Path, hub_model_id: str, private: bool = True) -> str:
    """Upload a pipeline folder with its card; returns its address. Needs a token (`hf auth login`).

    Raises InputError when the hub refuses or cannot be reached.
    """
    api = HfApi()
    try:
        address = api.create_repo(hub_model_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=hub_model_id, folder_path=folder, commit_message="Trained pipeline")
    except Exception as error:  # the hub's client raises a dozen kinds
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"push_to_hub: {hub_model_id} was not uploaded ({first}); the result lies in {folder}"
        ) from error
    return str(address)
