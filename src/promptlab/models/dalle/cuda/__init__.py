"""How a CUDA device draws: captured steps, blocks in flight, memory and its failures.

Takes what runner.Runner takes, gives the same results; knows nothing of how a device is chosen.
"""
