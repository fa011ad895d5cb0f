"""How two runs were made, in words, and by what they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cfcd.evaluation.evaluation_document import AP_RULES, settings_words
from cfcd.evaluation.saved import SavedReport

_DATA = ("queries", "gallery", "database", "distractors")  # whose differences are told as such


def run_words(report: SavedReport) -> dict[str, str]:
    """Say how a run was made, by name; what a report does not say is left out."""
    facts = report.facts
    data, source, rule = facts.get("data"), facts.get("distractor_source"), str(facts.get("ap_rule") or "")
    rows = {
        "model": report.model,
        "report": str(report.path),
        "data": data.get("source", "") if isinstance(data, Mapping) else "",
        "collection": facts.get("dataset") or "",
        "queries": f"{len(report.queries):,}",
        **{name: facts.get(name, "") for name in _DATA[1:]},
        "distractors from": source.get("source", "") if isinstance(source, Mapping) else "",
        "protocol": facts.get("protocol", ""),
        "recalls": ", ".join(name for name in facts if name.startswith("R@")),
        "average precision": AP_RULES.get(rule, rule),
        **_settings_words(facts.get("settings")),
    }
    return {name: str(value) for name, value in rows.items() if value != ""}


def _settings_words(settings: Any) -> dict[str, str]:
    """Trust no report to hold settings of the right kind: what cannot be said is left out."""
    try:
        return settings_words(settings) if isinstance(settings, Mapping) else {}
    except (TypeError, ValueError):
        return {}


def differing(a: SavedReport, b: SavedReport) -> dict[str, tuple[str, str]]:
    """Give what the runs were made with differently, as (A, B) by name, as far as both reports say it."""
    of_a, of_b = run_words(a), run_words(b)
    shared = (name for name in of_a if name in of_b and name not in ("report", *_DATA))
    return {name: (of_a[name], of_b[name]) for name in shared if of_a[name] != of_b[name]}
