"""What the service counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Count the requests of one service; several in a process do not mix."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "cfcd_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self._seconds = Histogram(
            "cfcd_request_seconds",
            "Time from a request to its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "cfcd_stage_seconds",
            "Time of the stages of a search.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._refused = Counter(
            "cfcd_refused_uploads", "Pictures not taken, by reason.", ("reason",), registry=registry
        )
        self._waiting = Gauge("cfcd_waiting_pictures", "Pictures that wait to be read.", registry=registry)
        self._items = Gauge("cfcd_gallery_items", "Items of the gallery.", registry=registry)
        self._generation = Gauge(
            "cfcd_gallery_generation", "Changes of the gallery so far.", registry=registry
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is its path template, of which there are few."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def note_stages(self, took: Mapping[str, float]) -> None:
        """Note the seconds of each stage of a search; stages that were not needed took none."""
        for stage, seconds in took.items():
            if seconds:
                self._stages.labels(stage).observe(seconds)

    def refuse(self, reason: str) -> None:
        """Count a picture that was not taken."""
        self._refused.labels(reason).inc()

    def note_queue(self, waiting: int) -> None:
        """Note how many pictures wait."""
        self._waiting.set(waiting)

    def note_gallery(self, items: int, generation: int) -> None:
        """Note the size and state of the gallery."""
        self._items.set(items)
        self._generation.set(generation)

    def text(self) -> bytes:
        """Give everything in Prometheus' text format."""
        return generate_latest(self._registry)
