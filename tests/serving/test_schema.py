"""Whatever its OpenAPI description allows, and what it does not: the service keeps to the description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.serving.web_support import BEARER, TOKEN, make_site, serving_site

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
GenerationMode = schemathesis.GenerationMode
POSITIVE_DATA_ACCEPTANCE = schemathesis.checks.positive_data_acceptance


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving_site(make_site(tmp_path_factory.mktemp("described")), token=TOKEN) as client:
        yield client


OPERATIONS = (
    ("POST", "/v1/search"),
    ("POST", "/v1/search/pictures"),
    ("GET", "/v1/items"),
    ("POST", "/v1/items"),
    ("GET", "/v1/items/{id}"),
    ("DELETE", "/v1/items/{id}"),
    ("GET", "/v1/pictures/{id}"),
    ("GET", "/v1/thumbnails/{id}"),
    ("POST", "/v1/explain"),
    ("GET", "/v1/gallery"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
)


@pytest.fixture(scope="module")
def schema(described: httpx.Client) -> Any:
    return schemathesis.openapi.from_url(f"{described.base_url}/openapi.json")


# What nothing can be wrong with: these take no fields.
FIELDLESS = {"/v1/gallery", "/healthz", "/readyz", "/metrics"}
CASES = [
    pytest.param(method, path, mode, id=f"{method} {path} {mode.name.lower()}")
    for method, path in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if not (mode is GenerationMode.NEGATIVE and path in FIELDLESS)
]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_answers_are_as_described(schema: Any, method: str, path: str, mode: Any) -> None:
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    def holds(case: Any) -> None:
        # A description cannot say which conditions, vectors and bytes of pictures are right.
        case.call_and_validate(headers=BEARER, excluded_checks=[POSITIVE_DATA_ACCEPTANCE])

    holds()


def test_the_description_names_every_route(described: httpx.Client) -> None:
    paths = described.get("/openapi.json").json()["paths"]
    found = {(method.upper(), path) for path, of_path in paths.items() for method in of_path}
    assert found == set(OPERATIONS)
    for of_path in paths.values():
        for operation in of_path.values():
            assert operation["summary"]
