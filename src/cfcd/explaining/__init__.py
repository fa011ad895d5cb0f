"""Why it matched: which regions of query and hit make up a score."""

from cfcd.explaining.explainer import Explainer, explain
from cfcd.explaining.explanation import Explanation, Match, Regions

__all__ = ["Explainer", "Explanation", "Match", "Regions", "explain"]
