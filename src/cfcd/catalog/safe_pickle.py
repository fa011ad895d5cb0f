"""Read a pickle of plain data (dicts, lists, strings, bytes, numbers) from a source that is not trusted."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from cfcd.errors import CatalogError

_MEND = "Get the file from its publisher again; cfcd runs no code from data files."
# What builds plain data; nothing that names, makes or calls an object. No tuples and frozen sets either:
# nested ones used as a key make the interpreter hash them recursively, until it hangs or its stack overflows.
# fmt: off
_PLAIN = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS",
    "GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE",
))
# fmt: on
_MEMO_WRITES = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))


class _PlainUnpickler(pickle.Unpickler):
    """The second lock: no class or function is ever looked up."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 - the signature is pickle's
        raise pickle.UnpicklingError("it refers to an object outside the file")


def load_plain_pickle(path: Path, *, max_bytes: int = 16 << 20) -> Any:
    """Load a pickle that holds plain data only; bytes of Python 2 become text as Latin-1.

    The instructions are checked against a list of harmless ones before the first is carried out. What comes
    back may still be of any shape and nested to any depth: check the types of what you take from it, and do
    not recurse into it.

    Args:
        path: The file.
        max_bytes: Refuse larger files.

    Raises:
        CatalogError: The file is missing, too large, damaged, or holds anything but plain data.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise CatalogError(
                f"{path} has {size:,} bytes; at most {max_bytes:,} are read as a pickle.", _MEND
            )
        data = path.read_bytes()
    except OSError as error:
        raise CatalogError(
            f"{path} cannot be read: {error.strerror}.", "Check its name and rights."
        ) from error
    try:
        _refuse_unplain(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise CatalogError(f"{path} is not a pickle of plain data: {error}.", _MEND) from error


def _refuse_unplain(data: bytes) -> None:
    writes = 0
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _PLAIN:
            what = f" ({argument})" if isinstance(argument, str) else ""
            raise pickle.UnpicklingError(f"it holds the instruction {opcode.name}{what[:120]}")
        if opcode.name in _MEMO_WRITES:
            # The unpickler allocates up to the largest number: ten bytes could ask for 64 GiB.
            if not isinstance(argument, int) or argument > 2 * writes + 1024:
                raise pickle.UnpicklingError(f"it numbers an object {argument} after {writes} others")
            writes += 1
