from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from cfcd.errors import BusyError, CfcdError
from cfcd.files import is_free
from cfcd.lock import FILE, holder, only_writer


def hold(folder: Path) -> None:
    with only_writer(folder):
        time.sleep(60)


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_the_other_process_is_named_and_a_killed_one_gives_the_lock_back(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path,))
    process.start()
    while holder(tmp_path).get("pid") != process.pid:
        time.sleep(0.01)
    with pytest.raises(BusyError, match=f"process {process.pid} on .*, since"), only_writer(tmp_path):
        pass
    process.kill()
    process.join()
    assert holder(tmp_path) == {}
    assert is_free(tmp_path)
    with only_writer(tmp_path, "mending") as tell:
        assert holder(tmp_path)["what"] == "mending"
        tell("writing")
        assert (holder(tmp_path)["what"], holder(tmp_path)["pid"]) == ("writing", os.getpid())
    assert {file.name for file in tmp_path.iterdir()} <= {FILE, f"{FILE}-journal"}


def test_two_in_one_process(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(BusyError, match="writing to"), only_writer(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"x", b"no database at all" * 300, b"\0" * 5000])
def test_a_damaged_lock_file_is_no_hindrance(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / "writer.json").write_bytes(content)
    for _ in range(2):
        with only_writer(tmp_path), pytest.raises(BusyError), only_writer(tmp_path):
            pass


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CfcdError, match="cannot be written to"), only_writer(tmp_path / "absent"):
        pass


@pytest.mark.parametrize(
    "said", [{}, {"pid": "x"}, [], {"pid": 2**22 + 5, "host": "", "since": 0, "what": "x"}]
)
def test_who_holds_it_may_be_nonsense(tmp_path: Path, said: object) -> None:
    (tmp_path / "writer.json").write_text(json.dumps(said))
    with only_writer(tmp_path):
        (tmp_path / "writer.json").write_text(json.dumps(said))
        with pytest.raises(BusyError), only_writer(tmp_path):
            pass
