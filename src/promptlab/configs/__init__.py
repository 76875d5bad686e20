"""Hydra ends here: takes a command line and conf/, gives plain jobs and checked settings.

Knows which keys and options exist and how Hydra composes them; not what a prompt, plan or model is.
"""
