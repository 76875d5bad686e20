"""Serve: a queue of sweeps, the process that draws them, and the pages and API that feed it.

Takes command lines of `promptlab sweep`, runs each in a child process on workers that it keeps.
The server's own process imports no torch, no MLflow and no pandas.
"""
