"""bench/steady.py in small: samples of now for three quarters of a minute, with checkpoints, checksums and autovacuum
on. Nothing is missing, fresh rows are folded in time, no more is written and worked than a real regression explains."""
import os
import subprocess
import sys

import pytest

from harness.process import ROOT, SLOW
from harness.postgres import BIN, BIN_IS_CHOSEN


def steady(*options, seconds):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PROMSCALE_"))}
    if BIN_IS_CHOSEN:
        env["PG_CONFIG"] = str(BIN / "pg_config")
    done = subprocess.run([sys.executable, ROOT / "bench/steady.py", "--check", *map(str, options)], env=env, text=True,
                          capture_output=True, timeout=seconds * 2 * SLOW + 120)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_steady_stream():
    steady("--minutes", 0.75, "--every", 15, "--series", 10000, "--rate", 50000, "--checkpoint", 30, seconds=45)


@pytest.mark.soak
def test_a_steady_stream_beside_open_readers():
    """One here, one on a standby that tells of it; what they are answered never changes."""
    seconds = float(os.environ.get("SOAK_SECONDS", "200"))
    steady("--minutes", seconds / 60, "--every", 20, "--rate", 150000, "--reader", "0.3:inf", "--standby", "on",
           "--standby-reader", "0.6:inf", "--wal-every", 8, seconds=seconds)
