"""How a CPU computes it: packed products, convolutions in strips, blocks side by side.

Takes tensors, returns tensors whose bits depend on no other image; knows no model.
"""
