"""The flow: takes composed jobs, gives a finished run folder. Start with sweep.py.

Calls each stage in order and hands plain records on; knows no stage's inside and no Hydra.
"""
