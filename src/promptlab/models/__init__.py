"""Models: take requests, give pixels or an error for each, behind one protocol.

protocol.py is the contract and registry.py opens a model from its config; no model knows cells,
run folders or MLflow. A new back end is a folder here and a file in conf/model/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.models.protocol import CompleteModel, Model, Parameter
    from promptlab.models.registry import open_model

__all__ = [
    "CompleteModel",
    "Model",
    "Parameter",
    "open_model",
]

__getattr__ = load_lazily(
    __name__,
    {
        "CompleteModel": "protocol",
        "Model": "protocol",
        "Parameter": "protocol",
        "open_model": "registry",
    },
)
