"""What people look at: a self-contained folder with a page of pictures."""

from preimage.report.contents import suggested_taps
from preimage.report.writing import Report, write_report

__all__ = ["Report", "suggested_taps", "write_report"]
