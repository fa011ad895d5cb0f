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
        self._changing = CapacityLimiter(1)

    async def search(
        self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run a search or a look-up."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._searching)

    async def draw(self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Run something that decodes pictures itself."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._drawing)

    async def change(
        self, call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """Run a change of the gallery: one at a time, so that waiting ones hold up no search."""
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._changing)
