"""A script for torchrun: train several times, so that the processes start once.

Arguments: a JSON list of keyword arguments of `cfcd.train`; "thin" tells whether the network is made thin.
"""

from __future__ import annotations

import json
import sys

from cfcd.model import lite0
from cfcd.training.run import train
from tests.training.runs.run_support import WIDE, make_thin

if __name__ == "__main__":
    for job in json.loads(sys.argv[1]):
        if job.pop("thin"):
            make_thin(setattr)
        else:
            vars(lite0).update(WIDE)
        train(**job)
