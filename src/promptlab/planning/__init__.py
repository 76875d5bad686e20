"""Planning: takes composed jobs, gives a plan: cells, requests and their ids.

Knows models only by what they declare; knows no weights, no files of a run and no Hydra.
"""
