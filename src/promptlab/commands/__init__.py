"""The verbs: one module each, with `add_arguments(parser)` and `run(args) -> int`.

A verb takes arguments and prints; the work is in the rooms below. A new verb is a module here and
its name in cli.py.
"""
