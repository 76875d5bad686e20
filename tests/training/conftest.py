"""What all tests of the training share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _gradients_on():
    # Importing min_dalle, as other tests do, turns gradients off for the whole process.
    with torch.enable_grad():
        yield
