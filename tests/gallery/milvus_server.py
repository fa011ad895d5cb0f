"""Start a real Milvus server, as the package `milvus` brings it, for as long as standard input stays open.

python tests/gallery/milvus_server.py FOLDER prints the port; it ends when its parent does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 240


@contextmanager
def milvus_server(folder: Path) -> Iterator[int]:
    """Run a server during the block; gives its port on 127.0.0.1.

    Raises:
        RuntimeError: It did not start.
    """
    log = folder / "start.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder / "milvus")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise RuntimeError(log.read_text(errors="replace")[-300:])
            yield int(port)
        finally:
            process.communicate(timeout=60)


def main() -> None:
    from milvus import MilvusServer, MilvusServerConfig

    config = MilvusServerConfig(data_dir=sys.argv[1])
    # Strongly consistent requests wait for a tick: every 20 ms here, where a server makes one every 200 ms.
    config.set("proxy.timeTickInterval", 20)
    server = MilvusServer(config, wait_for_started=False)
    server.start()
    try:
        server.wait_started(START_SECONDS * 1000)
        print(server.config.get("proxy_port"), flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
