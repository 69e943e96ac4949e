"""bench/backfill.py in small: samples for sealed days are all there, cost about what they cost fresh, and leave blocks as
small as if all had come at once. The bounds are wide: what it costs exactly is for the bench to say."""
import os
import subprocess
import sys

import pytest

from harness.process import ROOT, SLOW
from harness.postgres import BIN, BIN_IS_CHOSEN


def backfill(*options, seconds):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PROMSCALE_"))}
    if BIN_IS_CHOSEN:
        env["PROMSCALE_EMBEDDED_BIN_DIR"] = str(BIN)
    done = subprocess.run([sys.executable, ROOT / "bench/backfill.py", *map(str, options)], env=env, text=True,
                          capture_output=True, timeout=seconds * SLOW)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_late_samples_cost_what_fresh_ones_do():
    backfill("--targets", 1, "--days", 4, "--interval", 300, "--check", 2.5, seconds=300)


@pytest.mark.soak
def test_ten_million_late_samples():
    backfill("--check", 1.5, seconds=900)
