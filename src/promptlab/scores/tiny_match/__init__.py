"""tiny_match: the scorer in the package. How well an image shows its subject and, apart, its style.

Knows what the embedded model knows: its words, and drawings like its own; see MODEL_CARD.md.
"""
