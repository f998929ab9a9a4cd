"""Checks: one question to a replica, one ProbeResult. They never raise and hold nobody up."""

from hale.local.checks.checker import Checker, Target

__all__ = ["Checker", "Target"]
