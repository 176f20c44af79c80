"""What the pipeline.py of a saved pipeline names; the class lives in models/diffusion_pipeline.py."""

from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline  # noqa: F401
