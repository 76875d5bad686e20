"""The sweep language: prompts with slots, alternatives, wildcards, zips and rules.

Pure: takes texts and plain values, returns syntax trees and points of a grid; knows no Hydra, no
model and no torch. docs/grammar.md is its one page of documentation.
"""

from promptlab.planning.language.blocks import format_count
from promptlab.planning.language.errors import PatternError, Place
from promptlab.planning.language.grid import Grid, GridCount, Point
from promptlab.planning.language.job import JobPattern
from promptlab.planning.language.options import GridOptions
from promptlab.planning.language.parse import parse_pattern
from promptlab.planning.language.syntax import Choice, Pattern, Slot, Text, Wildcard
from promptlab.planning.language.values import read_carried, read_value
from promptlab.planning.language.wildcards import Wildcards, check_no_flags

__all__ = [
    "Choice",
    "Grid",
    "GridCount",
    "GridOptions",
    "JobPattern",
    "Pattern",
    "PatternError",
    "Place",
    "Point",
    "Slot",
    "Text",
    "Wildcard",
    "Wildcards",
    "check_no_flags",
    "format_count",
    "parse_pattern",
    "read_carried",
    "read_value",
]
