"""The way from the event loop to the threads in which the service works."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from cfcd.serving.settings import Settings

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Work:
    """Run what blocks in threads: searches in many, pictures in one per core, as each holds its pixels."""

    def __init__(self, settings: Settings) -> None:
        self._searching = CapacityLimiter(settings.concurrency)
        self._drawing = CapacityLimiter(settings.drawing)
        self._explaining = CapacityLimiter(max(1, settings.drawing // 2))
        self._changing = CapacityLimiter(1)

    async def search(
        self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run a search or a look-up."""
        return await _run(self._searching, partial(call, *args, **kwargs))

    async def draw(self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Run something that decodes pictures itself."""
        return await _run(self._drawing, partial(call, *args, **kwargs))

    async def explain(
        self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run an explanation: it takes a second and every core, and must not hold up small pictures."""
        return await _run(self._explaining, partial(call, *args, **kwargs))

    async def change(
        self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run a change of the gallery: one at a time, so that waiting ones hold up no search."""
        return await _run(self._changing, partial(call, *args, **kwargs))


async def _run(limiter: CapacityLimiter, call: Callable[[], Result]) -> Result:
    # Only the end of the service cancels a request, and then nobody waits for what its thread still does.
    return await to_thread.run_sync(call, limiter=limiter, abandon_on_cancel=True)
