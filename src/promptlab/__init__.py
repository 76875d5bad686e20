"""promptlab: prompt sweeps of text-to-image models.

Importing this package imports nothing else: no torch, no mlflow, no device is touched.
"""

__version__ = "0.1.0"
