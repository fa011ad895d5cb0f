"""What the authors' own code computes: a small file kept with the tests, a full one beside the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = REPOSITORY / "tests" / "data" / "losses.npz"  # of logits and grad_weight only the first rows
FULL = REPOSITORY.parent / "shared" / "golden" / "losses.npz"


def read_case(file: Path, case: str) -> dict[str, np.ndarray]:
    """Read the arrays of one case, or skip the test where the file is absent."""
    if file == FULL and not file.is_file():
        pytest.skip("the full golden values (shared/golden beside the repository) are not here")
    with np.load(file) as arrays:
        return {
            key.removeprefix(case + "/"): arrays[key] for key in arrays.files if key.startswith(case + "/")
        }


def assert_close(found, expected: np.ndarray) -> None:
    """Compare to 1e-9 of the greatest value; where an array is kept in part, its first rows."""
    found = found.detach().numpy()
    found = found[: len(expected)] if expected.ndim else found
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max() + 1e-15)
