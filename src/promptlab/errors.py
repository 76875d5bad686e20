"""The errors that promptlab explains to its user.

Every mistake that a person can make raises one of these, with a message that says what was
expected, what came, and what to do. Entry points print the message alone; a traceback means a
defect in promptlab. Knows nothing of any other module.
"""

EXIT_INTERRUPTED = 130  # as a shell reports a process ended by Ctrl-C


class PromptlabError(Exception):
    """A mistake or a circumstance that the message explains; the base of all others."""


class ConfigError(PromptlabError):
    """A config, an override, a template or a style does not say something drawable."""


class ParameterError(ConfigError):
    """A sampling parameter is unknown to the model or outside its range."""


class PromptError(ConfigError):
    """A prompt pattern cannot be read or filled; the message gives the position."""


class PlanTooLargeError(ConfigError):
    """A plan holds more images than its limit allows."""


class ModelError(PromptlabError):
    """A model cannot be found, loaded or run."""


class ModelLostError(ModelError):
    """A model cannot draw any more: its device or its service is gone; drawn images are kept."""


class BudgetSpentError(ModelLostError):
    """The next image of a model would cost more than the budget leaves."""


class PlanOutdatedError(ModelLostError):
    """A model found, before it drew an image, that requests must be planned anew to fit memory."""


class WeightsMissingError(ModelError):
    """A model's weights are not on this machine and cannot be fetched."""


class StoreError(PromptlabError):
    """A run folder cannot be read or written."""


class RunLockedError(StoreError):
    """Another living process writes the same run folder."""


class TrackingError(PromptlabError):
    """MLflow cannot be reached or refused a call."""


class ReportError(PromptlabError):
    """A contact sheet cannot be built from the given runs."""


class NoPicksError(ReportError):
    """Nothing of a run was picked yet."""


class SweepInterruptedError(PromptlabError):
    """Ctrl-C in the middle of a sweep; the message says how much is kept and how to resume."""
