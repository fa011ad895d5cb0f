"""A script for torchrun: train several times and run one command of cfcd, so that processes start once.

Arguments: a JSON list of keyword arguments of `cfcd.train`, where "thin" tells whether the network is made
thin; then the words of the command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cfcd.cli import main
from cfcd.model import lite0
from cfcd.training import run
from tests.training.runs.run_support import WIDE, make_thin

if __name__ == "__main__":
    run.draw_curves = lambda _: Path()  # takes as long as all the rest
    for job in json.loads(sys.argv[1]):
        if job.pop("thin"):
            make_thin(setattr)
        else:
            vars(lite0).update(WIDE)
        run.train(**job)
    vars(lite0).update(WIDE)
    sys.argv[1:2] = []
    main()
