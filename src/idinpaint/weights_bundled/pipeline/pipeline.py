# IdentityInpaintPipeline is code of the package `idinpaint`; this file leads diffusers to it.
from idinpaint.diffusion_pipeline import IdentityInpaintPipeline  # noqa: F401
