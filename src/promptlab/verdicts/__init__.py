"""Verdicts: what people (picks) and programs (scores) say of images; input of the next plan.

Takes image ids, gives verdicts joined by them; knows the store, not the page or MLflow.
"""
