"""Ask a service over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from cfcd.client.answers import Box, Explained, FoundHit, GalleryAnswer, Page, SearchAnswer, ServedItem
from cfcd.client.errors import ServiceError
from cfcd.errors import UnreadablePicture, UsageError

Picture = str | Path | bytes
"""A file, or its bytes."""

_BUSY = 503


class Client:
    """Search, show and change a served gallery.

    Args:
        url: Such as http://127.0.0.1:8000.
        token: What the service wants for changes.
        timeout: Seconds that a request may take.
        patience: Seconds in which a request is made again while the service says that it is busy.

    Raises:
        ServiceError: By every method: what the service says went wrong, or that it cannot be reached.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout: float = 60.0, patience: float = 10.0
    ) -> None:
        self.url = url.rstrip("/")
        try:
            host = httpx.URL(self.url).host
        except httpx.InvalidURL:
            host = ""
        if not host or not self.url.startswith(("http://", "https://")):
            raise UsageError(
                f"{url!r} is no address of a service.", "Give one such as http://127.0.0.1:8000."
            )
        self._patience = patience
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # No proxy knows this machine's own addresses.
        local = host in ("localhost", "::1") or host.startswith("127.")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=not local)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def is_ready(self) -> bool:
        """Tell whether the service is reached and has loaded its gallery."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def gallery(self) -> GalleryAnswer:
        """Ask what is served."""
        return GalleryAnswer.from_json(self._ask("GET", "/v1/gallery").json())

    def search(
        self,
        picture: Picture | Sequence[Picture] = (),
        *,
        box: Box | Sequence[Box | None] | None = None,
        ids: str | Sequence[str] = (),
        vectors: Any = (),
        minus: Picture | Sequence[Picture] = (),
        minus_ids: str | Sequence[str] = (),
        k: int = 20,
        offset: int = 0,
        where: str | None = None,
        labels: str | Sequence[str] = (),
        only_ids: Sequence[str] = (),
        expand: int = 0,
        descriptors: bool = False,
    ) -> SearchAnswer:
        """Find the items most like a picture, an item or a descriptor; several show one object together.

        Args:
            picture: A file or its bytes, or several; beside them only `ids`, and no other search options than
                `minus`, `k`, `offset`, `where`, `labels` and `expand`.
            box: (x1, y1, x2, y2) in pixels of the upright picture: search with that part; one per picture.
            ids: Items of the gallery.
            vectors: A (D,) descriptor of the gallery's model, or (N, D) of them.
            minus: Pictures of what is not wanted.
            minus_ids: Items likewise.
            k: Hits of a page.
            offset: Hits to leave out before it.
            where: A condition, such as "year >= 1990".
            labels: Find only items with one of these labels.
            only_ids: Find only these items.
            expand: Move the query towards so many of its best hits.
            descriptors: Give every hit its descriptor.

        Raises:
            UsageError: These cannot go together.
            UnreadablePicture: A file cannot be read.
        """
        pictures, unwanted = _several(picture), _several(minus)
        rows = _rows(vectors)
        if not pictures and not unwanted:
            wish = {
                "ids": _texts(ids),
                "vectors": rows,
                "minus_ids": _texts(minus_ids),
                "k": k,
                "offset": offset,
                "where": where or "",
                "labels": _texts(labels),
                "only_ids": list(only_ids),
                "expand": expand,
                "descriptors": descriptors,
            }
            return SearchAnswer.from_json(self._ask("POST", "/v1/search", json=wish).json())
        if rows or minus_ids or only_ids or descriptors:
            raise UsageError(
                "A search with pictures takes no vectors, minus_ids, only_ids or descriptors.",
                "Leave them out, or search with ids and vectors.",
            )
        form: dict[str, Any] = {"k": str(k), "offset": str(offset), "expand": str(expand)}
        form |= {"where": where or "", "id": _texts(ids), "label": _texts(labels)}
        form["box"] = [_box_text(one) for one in _boxes(box, len(pictures))]
        files = [("picture", _file(one)) for one in pictures] + [("minus", _file(one)) for one in unwanted]
        answer = self._ask("POST", "/v1/search/pictures", data=form, files=files)
        return SearchAnswer.from_json(answer.json())

    def every_hit(self, *args: Any, page: int = 100, **options: Any) -> Iterator[FoundHit]:
        """Give one hit after another, page by page; arguments as for `search` less k and offset."""
        offset = 0
        most = self.gallery().max_k
        while offset < most:
            answer = self.search(*args, k=min(page, most - offset), offset=offset, **options)
            yield from answer.hits
            if not answer.more:
                return
            offset += len(answer.hits)

    def items(
        self, *, where: str | None = None, labels: str | Sequence[str] = (), offset: int = 0, k: int = 50
    ) -> Page:
        """List items, in the order in which they were added."""
        wish = {"where": where or "", "label": _texts(labels), "offset": offset, "k": k}
        return Page.from_json(self._ask("GET", "/v1/items", params=wish).json())

    def item(self, item_id: str) -> ServedItem:
        """Ask for one item."""
        return ServedItem.from_json(self._ask("GET", _address("items", item_id)).json())

    def add(
        self,
        picture: Picture,
        *,
        id: str | None = None,
        label: str | None = None,
        split: str | None = None,
        columns: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> ServedItem:
        """Add a picture to the gallery; without an id it is given one.

        Raises:
            UnreadablePicture: The file cannot be read.
        """
        named = {"id": id, "label": label, "split": split}
        row = {**(columns or {}), **{name: value for name, value in named.items() if value is not None}}
        answer = self._ask(
            "POST",
            "/v1/items",
            params={"replace": "true"} if replace else {},
            data={"row": json.dumps(row)},
            files=[("picture", _file(picture))],
        )
        return ServedItem.from_json(answer.json())

    def remove(self, item_id: str) -> int:
        """Remove an item, not its picture file; gives the new state of the gallery."""
        return int(self._ask("DELETE", _address("items", item_id)).json()["generation"])

    def picture(self, item_id: str, *, side: int | None = None, boxed: bool = False) -> bytes:
        """Ask for an item's picture as a JPEG.

        Args:
            item_id: The item.
            side: Longest side in pixels; without, what the service thinks fit.
            boxed: Only the part in the item's box.
        """
        wish = {**({} if side is None else {"side": side}), **({"boxed": "true"} if boxed else {})}
        return self._ask("GET", _address("pictures", item_id), params=wish).content

    def thumbnail(self, item_id: str, *, side: int | None = None) -> bytes:
        """Ask for an item's picture as a small JPEG."""
        wish = {} if side is None else {"side": side}
        return self._ask("GET", _address("thumbnails", item_id), params=wish).content

    def explain(
        self,
        hit: str,
        picture: Picture | None = None,
        *,
        id: str | None = None,
        box: Box | None = None,
    ) -> Explained:
        """Ask why an item matches a picture, or another item.

        Raises:
            UsageError: There is neither, or both.
            UnreadablePicture: The file cannot be read.
        """
        return Explained.from_json(self._explain(hit, picture, id, box, "application/json").json())

    def explain_png(
        self,
        hit: str,
        picture: Picture | None = None,
        *,
        id: str | None = None,
        box: Box | None = None,
    ) -> bytes:
        """Ask for the drawing of `explain`, as a PNG."""
        return self._explain(hit, picture, id, box, "image/png").content

    def _explain(
        self, hit: str, picture: Picture | None, item_id: str | None, box: Box | None, kind: str
    ) -> httpx.Response:
        if (picture is None) == (item_id is None):
            raise UsageError("An explanation needs a picture or an id.", "Give one of them.")
        form = {"hit": hit, **({} if item_id is None else {"id": item_id})}
        if box is not None:
            form["box"] = _box_text(box)
        parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in form.items()]
        if picture is not None:
            parts.append(("picture", _file(picture)))
        return self._ask("POST", "/v1/explain", files=parts, headers={"Accept": kind})

    def _ask(self, method: str, address: str, **options: Any) -> httpx.Response:
        until = time.monotonic() + self._patience
        while True:
            try:
                answer = self._http.request(method, address, **options)
            except httpx.HTTPError as error:
                raise ServiceError(
                    f"{self.url} cannot be asked: {error or type(error).__name__}.",
                    "Check that cfcd serve runs there.",
                    "unreachable",
                ) from error
            if answer.is_success:
                return answer
            wait = _wait_of(answer)
            if answer.status_code != _BUSY or time.monotonic() + wait > until:
                raise _problem(answer)
            time.sleep(wait)


def _problem(answer: httpx.Response) -> ServiceError:
    try:
        error = answer.json()["error"]
        return ServiceError(error["message"], error["mend"], error["code"], answer.status_code)
    except (ValueError, KeyError, TypeError):
        return ServiceError(
            f"{answer.url} answered {answer.status_code} without saying why.",
            "Check that the address is that of cfcd serve.",
            "no_answer",
            answer.status_code,
        )


def _wait_of(answer: httpx.Response) -> float:
    try:
        return min(max(float(answer.headers.get("Retry-After", "1")), 0.1), 60.0)
    except ValueError:
        return 1.0


def _address(kind: str, item_id: str) -> str:
    """Give the address of an item; what proxies would tidy up in it is escaped."""
    plain = all(part not in ("", ".", "..") for part in item_id.split("/"))
    return f"/v1/{kind}/{quote(item_id, safe='/' if plain else '')}"


def _several(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    return [pictures] if isinstance(pictures, str | Path | bytes) else list(pictures)


def _texts(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _rows(vectors: Any) -> list[list[float]]:
    """Take one vector or several, of numpy or of lists."""
    values = vectors.tolist() if hasattr(vectors, "tolist") else list(vectors)
    rows = values if values and isinstance(values[0], Sequence) else [values] if values else []
    return [[float(number) for number in row] for row in rows]


def _boxes(box: Box | Sequence[Box | None] | None, pictures: int) -> list[Box | None]:
    if box is None:
        return []
    boxes: list[Any] = [box] if len(box) == 4 and isinstance(box[0], int | float) else list(box)
    if len(boxes) > pictures:
        raise UsageError(
            f"There are {len(boxes)} boxes for {pictures} pictures.", "Give one per picture, or None."
        )
    return boxes


def _box_text(box: Box | None) -> str:
    return "" if box is None else ",".join(f"{float(side):.10g}" for side in box)


def _file(picture: Picture) -> tuple[str, bytes]:
    if isinstance(picture, bytes):
        return "picture", picture
    try:
        return "picture", Path(picture).read_bytes()
    except OSError as error:
        raise UnreadablePicture(
            f"Cannot read {picture}: {error.strerror or error}.", "Check the path; it is case-sensitive."
        ) from error
