"""The house keeps its walls: rooms import only from rooms before them, and start-up stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "cfcd"

# Each room may import from itself and from the rooms above it.
ROOMS = (
    "errors",
    "lazy",
    "files",
    "lock",
    "catalog",
    "pictures",
    "lettering",
    "check_report",
    "check",
    "model",
    "encoding",
    "explaining",
    "losses",
    "gallery",
    "evaluation",
    "training",
    "info",
    "demo",
    "serving",
    "client",
    "cli",
)
HEAVY = (
    "numpy",
    "PIL",
    "torch",
    "transformers",
    "openvino",
    "faiss",
    "pyarrow",
    "fastapi",
    "uvicorn",
    "httpx",
    "rich",
)


def imports_of(file: Path) -> set[str]:
    """Name the rooms a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "cfcd" else [f"cfcd.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("cfcd.")}
    return found


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_file_is_in_a_room() -> None:
    rooms = {room_of(file) for file in SOURCE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(ROOMS)


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_upwards(file: Path) -> None:
    room = room_of(file)
    if room in {"__init__", "__main__"}:
        return
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    public = {"__version__", "load_model", "read_catalog"}
    assert imports_of(file) - public <= allowed


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_files_stay_readable(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= 400


@pytest.mark.parametrize(
    "code",
    [
        "import cfcd",
        "import cfcd.cli; cfcd.cli._register()",
        "import cfcd; cfcd.CfcdError",
    ],
)
def test_start_up_loads_nothing_heavy(code: str) -> None:
    program = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    program = (
        "import sys\nsys.argv = ['cfcd', '--help']\nimport cfcd.cli\n"
        "try:\n    cfcd.cli.main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for command in (
        "check",
        "encode",
        "index",
        "search",
        "serve",
        "explain",
        "calibrate",
        "duplicates",
        "compact",
        "export-descriptors",
        "import-descriptors",
        "evaluate",
        "compare",
        "evaluate-landmarks",
        "import-official",
        "train",
        "info",
        "remove",
        "create",
        "demo",
    ):
        assert f"  {command} " in result.stdout
    assert result.stdout.splitlines()[-1] == "LOADED"


def test_every_public_name_can_be_loaded() -> None:
    import cfcd

    for name in cfcd.__all__:
        if name in ("create_model", "train"):
            pytest.importorskip("torch", reason="torch is not installed")
        assert getattr(cfcd, name) is not None
    with pytest.raises(AttributeError):
        cfcd.nothing  # noqa: B018
