# IdentityInpaintPipeline is code of the package `idinpaint`; this file leads diffusers to it.
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline  # noqa: F401
