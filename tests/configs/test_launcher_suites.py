"""Hydra's own launcher suites, inherited as they are: ordinary Hydra applications still work."""

import pytest
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite


# The suites' own runner sets no version_base, of which Hydra warns.
@pytest.mark.filterwarnings("ignore:Future Hydra versions will no longer change working directory")
@pytest.mark.parametrize(("launcher_name", "overrides"), [("promptlab", [])])
class TestPromptlabLauncher(LauncherTestSuite):
    """Jobs of an ordinary task function, in this process."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["--multirun", "hydra/launcher=promptlab"])],
)
class TestPromptlabLauncherIntegration(IntegrationTestSuite):
    """Ordinary Hydra applications, each in a process of its own."""
