"""A report as files: its numbers for programs, its document for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfcd.evaluation.document import Document
from cfcd.evaluation.evaluation_json import write_report_json
from cfcd.evaluation.markdown import write_markdown
from cfcd.evaluation.page import write_page


def write_report(out: Path, stem: str, value: Mapping[str, Any], document: Document) -> list[Path]:
    """Write STEM.json, STEM.md and STEM.html; give the files.

    Args:
        out: Folder for the files, made if need be.
        stem: Their name without the ending.
        value: What the JSON file holds.
        document: What the text and the page say.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{stem}.{ending}" for ending in ("json", "md", "html")]
    write_report_json(files[0], value)
    write_markdown(document, files[1])
    write_page(document, files[2])
    return files
