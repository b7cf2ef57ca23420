"""One error tree for run folders and reports.

ReportError
 +- RunError       a run folder cannot be written or read: what was wrong, where, and what is still there
 +- RenderError    a report cannot be made from what the run folder holds

Every message is one sentence: what was wrong, where, and what to do.
"""

from __future__ import annotations


class ReportError(Exception):
    """Root of everything that `reports` raises on purpose."""


class RunError(ReportError):
    """A run folder cannot be written or read."""


class RenderError(ReportError):
    """A report cannot be made from what the run folder holds."""
