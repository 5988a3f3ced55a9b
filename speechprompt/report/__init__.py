"""The HTML report of a run: `Report` says what to show, `write_report` draws it into one file."""

from speechprompt.report.colours import unit_colours
from speechprompt.report.content import Clip, ClipSection, Curve, Report, Score
from speechprompt.report.page import render_report, write_report

__all__ = ["Clip", "ClipSection", "Curve", "Report", "Score", "render_report", "unit_colours", "write_report"]
