"""Models: take requests, give pixels or an error for each, behind one protocol.

protocol.py is the contract and registry.py opens a model from its config; no model knows cells,
run folders or MLflow. A new back end is a folder here and a file in conf/model/.
"""
