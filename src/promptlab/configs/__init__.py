"""Hydra ends here: takes a command line and conf/, gives plain jobs and checked settings.

Knows which keys and options exist and how Hydra composes them; not what a prompt, plan or model is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab.exports import load_lazily

if TYPE_CHECKING:
    from promptlab.configs.hydra_app import compose_jobs
    from promptlab.configs.settings import Job, Settings, settings_from_jobs
    from promptlab.configs.vocabulary import Option, find_options, list_options, read_option

__all__ = [
    "Job",
    "Option",
    "Settings",
    "compose_jobs",
    "find_options",
    "list_options",
    "read_option",
    "settings_from_jobs",
]

__getattr__ = load_lazily(
    __name__,
    {
        "Job": "settings",
        "Option": "vocabulary",
        "Settings": "settings",
        "compose_jobs": "hydra_app",
        "find_options": "vocabulary",
        "list_options": "vocabulary",
        "read_option": "vocabulary",
        "settings_from_jobs": "settings",
    },
)
