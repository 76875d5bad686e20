"""How a CUDA device computes it: captured decoding, detokenizing on a second stream.

Takes a loaded model's parts, gives the tokens and pixels that the CPU path would; knows no prompts.
"""
