"""What the pipeline.py of a saved pipeline names; the class lives in models/sd_pipeline.py."""

from idinpaint.models.sd_pipeline import IdentitySDInpaintPipeline  # noqa: F401
