"""Text-to-image pipelines of diffusers: any folder, file or Hub repository that it can load.

`open_pipeline` is what a config's `_target_` names. Light: neither torch nor diffusers, no weights.
"""

from promptlab.models.diffusers.model import DiffusersModel

__all__ = ["DiffusersModel", "open_pipeline"]

open_pipeline = DiffusersModel
