"""What the benchmarks of `cfcd serve` share: its process, requests made ahead, and clients that send them.

The clients are threads with plain sockets in a process of their own, which do nothing but send bytes that are
ready and note when the answer is whole: some hundredths of a millisecond of work per request.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

_START_SECONDS = 600.0


@dataclass(frozen=True)
class Served:
    """A running `cfcd serve`."""

    process: subprocess.Popen[str]
    url: str
    start_s: float

    @property
    def address(self) -> tuple[str, int]:
        """Give host and port."""
        url = httpx.URL(self.url)
        return url.host, url.port or 80

    def memory(self) -> dict[str, float]:
        """Give open files, and resident memory now and at most in MB; nothing where no system says so."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return {}
        names = {"VmRSS": "resident_mb", "VmHWM": "most_mb"}
        found = {"files": float(len(list(Path(f"/proc/{self.process.pid}/fd").iterdir())))}
        for line in status.splitlines():
            key, _, rest = line.partition(":")
            if key in names:
                found[names[key]] = int(rest.split()[0]) / 1024
        return found

    def stop(self) -> int:
        """End it as Ctrl-C does; gives its exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def start(gallery: Path, *options: str, log: Path, token: str | None = None) -> Served:
    """Start `cfcd serve` on a free port, and wait until it is ready."""
    began = time.perf_counter()
    environment = {**os.environ, **({} if token is None else {"CFCD_TOKEN": token})}
    with log.open("a") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "cfcd", "serve", str(gallery), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            env=environment,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"http://\S+?(?=/?\s|/?$)", line)
    if match is None:
        process.kill()
        raise SystemExit(f"cfcd serve did not start: {line}{log.read_text()}")
    with httpx.Client(base_url=match[0], trust_env=False) as client:
        while time.perf_counter() - began < _START_SECONDS:
            if client.get("/readyz").is_success:
                return Served(process, match[0], time.perf_counter() - began)
            time.sleep(0.01)
    process.kill()
    raise SystemExit(f"cfcd serve was not ready in time: {log.read_text()}")


def request_of(served: Served, method: str, address: str, token: str | None = None, **options: Any) -> bytes:
    """Give the bytes of a request, as a client sends them over a connection that stays open."""
    made = httpx.Request(method, served.url + address, **options)
    made.read()
    head = {name: value for name, value in made.headers.items() if name not in ("connection", "accept")}
    if token is not None:
        head["authorization"] = f"Bearer {token}"
    lines = [f"{method} {made.url.raw_path.decode()} HTTP/1.1", *(f"{name}: {head[name]}" for name in head)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + made.content


def load(
    served: Served, requests: Sequence[bytes], *, clients: int, seconds: float, working: Path
) -> dict[str, Any]:
    """Have clients send these requests, one after another each, for some seconds.

    Returns:
        requests_per_s, p50_ms, p99_ms, count, and statuses: how often each came.
    """
    bodies, lengths = working / "requests.bin", working / "requests.json"
    bodies.write_bytes(b"".join(requests))
    lengths.write_text(json.dumps([len(one) for one in requests]))
    host, port = served.address
    result = subprocess.run(
        [sys.executable, __file__, host, str(port), str(clients), str(seconds), str(bodies), str(lengths)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def _send(
    address: tuple[str, int],
    requests: Sequence[bytes],
    at: int,
    until: float,
    taken: list[float],
    statuses: dict[int, int],
) -> None:
    """Be one client; a connection that breaks counts as status 0."""
    while time.perf_counter() < until:
        try:
            with socket.create_connection(address) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                held = b""
                while (start := time.perf_counter()) < until:
                    connection.sendall(requests[at % len(requests)])
                    at += 1
                    status, held = _answer(connection, held)
                    taken.append(time.perf_counter() - start)
                    statuses[status] = statuses.get(status, 0) + 1
        except OSError:
            statuses[0] = statuses.get(0, 0) + 1
            time.sleep(0.1)


def _answer(connection: socket.socket, held: bytes) -> tuple[int, bytes]:
    """Read one answer; gives its status and what has come of the next."""
    while (end := held.find(b"\r\n\r\n")) < 0:
        held += _more(connection)
    head = held[:end].lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
    while len(held) < end + 4 + length:
        held += _more(connection)
    return int(head[9:12]), held[end + 4 + length :]


def _more(connection: socket.socket) -> bytes:
    found = connection.recv(1 << 18)
    if not found:
        raise ConnectionError("the service closed a connection in the middle of an answer")
    return found


def summary(taken: Sequence[float], seconds: float) -> dict[str, float]:
    """Sum up the times of requests: rate, median and 99th percentile."""
    p50, p99 = np.percentile(np.array(taken), [50, 99])
    return {
        "count": len(taken),
        "requests_per_s": len(taken) / seconds,
        "p50_ms": 1000 * float(p50),
        "p99_ms": 1000 * float(p99),
    }


def main() -> None:
    """Be the clients: HOST PORT CLIENTS SECONDS BODIES LENGTHS; prints JSON."""
    host, port, clients, seconds, bodies, lengths = sys.argv[1:]
    content, requests, start = Path(bodies).read_bytes(), [], 0
    for length in json.loads(Path(lengths).read_text()):
        requests.append(content[start : start + length])
        start += length
    taken: list[list[float]] = [[] for _ in range(int(clients))]
    statuses: list[dict[int, int]] = [{} for _ in range(int(clients))]
    began = time.perf_counter()
    until = began + float(seconds)
    threads = [
        threading.Thread(
            target=_send,
            args=((host, int(port)), requests, at * 7, until, taken[at], statuses[at]),
        )
        for at in range(int(clients))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything: dict[str, int] = {}
    for one in statuses:
        for status, count in one.items():
            everything[str(status)] = everything.get(str(status), 0) + count
    flat = [value for one in taken for value in one]
    print(json.dumps({**summary(flat, time.perf_counter() - began), "statuses": everything}))


if __name__ == "__main__":
    main()
