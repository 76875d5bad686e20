"""The sweep language: prompts with slots, alternatives, wildcards, links and rules.

Pure: takes texts and plain values, returns syntax trees and points of a grid; knows no Hydra, no
model and no torch. GRAMMAR.md beside this file is its one page of documentation.
"""

from promptlab.language.errors import PatternError, Place
from promptlab.language.parse import parse_pattern
from promptlab.language.syntax import Choice, Pattern, Slot, Text, Wildcard

__all__ = [
    "Choice",
    "Pattern",
    "PatternError",
    "Place",
    "Slot",
    "Text",
    "Wildcard",
    "parse_pattern",
]
