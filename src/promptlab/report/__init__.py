"""The contact sheet: takes run folders, gives pages, pictures and animations.

Knows the store and the verdicts, no model, no plan and no MLflow; imports no torch or pandas.
"""

from promptlab.report.options import ReportOptions, SheetFiles
from promptlab.report.sheet import publish, write_contact_sheet, write_standalone

__all__ = ["ReportOptions", "SheetFiles", "publish", "write_contact_sheet", "write_standalone"]
