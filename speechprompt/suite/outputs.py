"""What a suite ends in: suite.csv, suite.json, suite.md, report.html, from every cell that its folder holds."""

from __future__ import annotations

import json
from pathlib import Path

from speechprompt.report.suite_page import render_suite
from speechprompt.suite.cell_files import all_failures, all_results
from speechprompt.suite.page_content import suite_report
from speechprompt.suite.rows import table_rows
from speechprompt.suite.tables import csv_text, json_content, markdown_text
from units.atomic import atomic_path, remove_torn
from units.claims import claimed

CSV_FILE, JSON_FILE, MARKDOWN_FILE, REPORT_FILE = "suite.csv", "suite.json", "suite.md", "report.html"


def write_outputs(out: Path, *, command: str = "") -> None:
    """Write the four files, each in one step; those of earlier commands in the same folder are in them too.

    Another command that writes them at this moment is waited for.
    """
    with claimed(out, "outputs", wait=True):
        _write(out, command)


def _write(out: Path, command: str) -> None:
    results, failures = all_results(out), all_failures(out)
    rows = table_rows(results)
    texts = {
        CSV_FILE: csv_text(results),
        JSON_FILE: json.dumps(json_content(rows, results, failures, command), indent=1, ensure_ascii=False)
        + "\n",
        MARKDOWN_FILE: markdown_text(rows, failures),
        REPORT_FILE: render_suite(suite_report(rows, failures, command)),
    }
    for name, text in texts.items():
        remove_torn(out / name)
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
