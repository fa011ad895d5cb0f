"""Answers as bytes: JSON that is always valid, and problems in one shape."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import Response

from cfcd.errors import CfcdError
from cfcd.serving.errors import NoToken, NotReady, code_of, status_of

if TYPE_CHECKING:
    from cfcd.catalog import Item
    from cfcd.gallery import Hit

RETRY_SECONDS = 1


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Say for OpenAPI that a route may answer with problems; what every route may answer is among them."""
    said = {"application/json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}
    everywhere = {400, 403, 404, 421, 422, 500, 503}
    return {
        code: {"description": HTTPStatus(code).phrase, "content": said}
        for code in sorted({*codes, *everywhere})
    }


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON; NaN and infinity become null, and everything but ASCII is escaped."""
    try:
        body = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        body = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    return Response(body.encode("ascii"), status, headers, media_type="application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def problem(
    status: int, code: str, message: str, mend: str, headers: dict[str, str] | None = None
) -> Response:
    """Answer with a problem."""
    return as_json({"error": {"code": code, "message": message, "mend": mend}}, status, headers)


def problem_of(error: CfcdError, status: int | None = None) -> Response:
    """Answer with an error of ours that is fit to be shown."""
    status = status or status_of(error) or 500
    headers = {}
    if isinstance(error, NoToken):
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = str(5 if isinstance(error, NotReady) else RETRY_SECONDS)
    return problem(status, code_of(error), error.what, error.mend, headers)


def link(kind: str, item_id: str) -> str:
    """Give the path of a picture or thumbnail.

    Slashes stay, but in ids that browsers and proxies would tidy up: those with `//`, `.` or `..` parts.
    """
    plain = all(part not in ("", ".", "..") for part in item_id.split("/"))
    return f"/v1/{kind}/{quote(item_id, safe='/' if plain else '', errors='replace')}"


def item_answer(item: Item) -> dict[str, Any]:
    """Give an item as plain data; where its file lies is nobody's business."""
    return {
        "id": item.id,
        "label": item.label,
        "split": item.split,
        "box": item.box,
        "extra": dict(item.extra),
        "picture": link("pictures", item.id),
        "thumbnail": link("thumbnails", item.id),
    }


def hit_answer(hit: Hit) -> dict[str, Any]:
    """Give a hit as plain data."""
    found = {
        "rank": hit.rank,
        **item_answer(hit.item),
        "score": round(hit.score, 6),
        "verdict": hit.verdict,
    }
    if hit.descriptor is not None:
        found["descriptor"] = [round(float(value), 7) for value in hit.descriptor]
    return found
