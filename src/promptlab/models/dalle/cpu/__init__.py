"""How a CPU computes it: packed products, convolutions in strips, blocks side by side.

Takes tensors, gives tensors with bits that depend on no other image; knows no model.
"""
