"""Hosted models and running servers, against servers that run here."""
