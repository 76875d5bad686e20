"""Models: everything that turns requests into pixels, behind one protocol."""
