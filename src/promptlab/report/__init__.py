"""The contact sheet: the page where the gold is found.

Takes run folders, writes pages and pictures. Importing it imports no torch, mlflow or pandas.
"""

from promptlab.report.options import ReportOptions, SheetFiles
from promptlab.report.sheet import publish, write_contact_sheet, write_standalone

__all__ = ["ReportOptions", "SheetFiles", "publish", "write_contact_sheet", "write_standalone"]
