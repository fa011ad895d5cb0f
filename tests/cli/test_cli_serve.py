"""`cfcd serve` as people start and stop it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serving.service_support import photo_bytes
from tests.serving.web_support import make_site

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("served"))


@contextmanager
def started(gallery: Path, *options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; gives the process and the address it has printed."""
    command = [sys.executable, "-m", "cfcd", "serve", str(gallery), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(rf"serving {re.escape(str(gallery))} at (http://127\.0\.0\.1:\d+/)\n", line)
        assert found, line + (process.communicate()[1] if process.poll() is not None else "")
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_it_answers_until_it_is_interrupted(gallery: Path, cli: Cli) -> None:
    token = "a-token-of-the-environment"
    with started(gallery, CFCD_TOKEN=token) as (process, address):
        files = [("picture", ("a.jpg", photo_bytes(0), "image/jpeg"))]
        answer = httpx.post(f"{address}v1/search/pictures", files=files, timeout=120)
        assert answer.json()["hits"][0]["label"] == "arch"

        assert httpx.delete(f"{address}v1/items/church/0.jpg", timeout=60).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.delete(f"{address}v1/items/church/0.jpg", headers=headers, timeout=60).status_code == 200

        assert httpx.get(f"{address}v1/items/bridge/0.jpg", timeout=60).status_code == 200
        cli("remove", gallery, "bridge/0.jpg")
        assert httpx.get(f"{address}v1/items/bridge/0.jpg", timeout=60).status_code == 404

        place = httpx.URL(address).host, httpx.URL(address).port
        with socket.create_connection(place), socket.create_connection(place) as half:
            half.sendall(b"POST /v1/search HTTP/1.1\r\n")
            code, errors = stopped(process, signal.SIGINT)  # open connections hold up nothing
    assert code == 0
    assert errors.endswith("stopped\n")
    assert "removed 'church/0.jpg'" in errors
    assert token not in errors
    assert "Traceback" not in errors


def test_a_port_that_is_taken_is_an_error(gallery: Path, cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("serve", gallery, "--port", str(port), code=2)
    assert f"Port {port} of 127.0.0.1 is taken" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "no gallery"),
        (("{gallery}", "--host", "192.0.2.1"), "192.0.2.1"),
        (("{gallery}", "--host", "nothing.invalid"), "no address nothing.invalid"),
        (("{gallery}", "--token-file", "nothing"), "token file nothing"),
        (("{gallery}", "--model", "nothing"), "nothing"),
        (("{gallery}", "--max-k", "0"), "--max-k"),
    ],
)
def test_what_cannot_be_served_is_an_error(
    gallery: Path, cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    given = [argument.format(gallery=gallery) for argument in arguments]
    port = () if "--port" in given else ("--port", "0")
    result = cli("serve", *given, *port, code=1 if said in ("no gallery", "nothing") else 2)
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_all_addresses_bring_a_warning(gallery: Path) -> None:
    with started(gallery, "--host", "0.0.0.0") as (process, address):
        port = httpx.URL(address).port
        assert httpx.get(f"{address}v1/items/arch/0.jpg", headers={"Host": "192.0.2.1"}).status_code == 200
        assert httpx.get(f"{address}v1/items/arch/0.jpg", headers={"Host": "a.example"}).status_code == 421
        code, errors = stopped(process, signal.SIGTERM)
    assert code == 0
    assert f"warning: everyone who reaches port {port} can search the gallery\n" in errors


def test_searching_loads_neither_torch_nor_transformers(gallery: Path, tmp_path: Path) -> None:
    """The light install serves: what answers a search and explains it must not need more."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import sys
from pathlib import Path
import anyio, httpx
from cfcd.serving.app import make_app
from cfcd.serving.service import Service
from cfcd.serving.settings import Settings

async def ask(service):
    transport = httpx.ASGITransport(make_app(service, Settings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        files = [("picture", ("a.jpg", Path(sys.argv[2]).read_bytes()))]
        found = (await client.post("/v1/search/pictures", files=files)).json()["hits"][0]
        why = await client.post("/v1/explain", files=files, data={"hit": found["id"]})
        print(found["label"], why.status_code, (await client.get("/openapi.json")).status_code)

service = Service.open(sys.argv[1])
anyio.run(ask, service)
service.close()
print(*[name for name in ("torch", "transformers", "onnx", "safetensors") if name in sys.modules])
"""
    )
    picture = tmp_path / "a.jpg"
    picture.write_bytes(photo_bytes(0))
    command = [sys.executable, program, gallery, picture]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout == "arch 200 200\n\n", result.stdout + result.stderr
