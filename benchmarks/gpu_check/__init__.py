"""Everything that a GPU has to prove, in one command of eight minutes.

Takes a folder and a budget, gives a report: what holds, what does not, and what to do next. Needs
torch, numpy, Pillow and min-dalle's modules only.
"""
