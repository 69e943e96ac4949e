"""bench/sql.py in small: the same answers from a metric and from a heap with the same rows, in every state of the
blocks, and aggregates where they belong. Its figures of speed are not looked at here."""
import json
import os
import subprocess
import sys

from harness.process import ROOT, SLOW
from harness.postgres import BIN, BIN_IS_CHOSEN


def test_answers_are_those_of_a_heap(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PROMSCALE_"))}
    if BIN_IS_CHOSEN:
        env["PROMSCALE_EMBEDDED_BIN_DIR"] = str(BIN)
    out = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, ROOT / "bench/sql.py", "--quick", "--json", out], env=env, text=True,
                          capture_output=True, timeout=300 * SLOW)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    r = json.loads(out.read_text())
    assert r["wrong"] == [] and set(r["ours"]) == {"sealed", "resent", "resent and sealed"}
    assert r["where"]["sealed"]["fresh"] == r["where"]["sealed"]["merged"] == 0
    assert r["where"]["resent"]["merged"] >= r["samples"]
    for query in ("whole", "by series", "by label", "by date_bin of 5 min", "one label selected"):
        assert r["ours"]["sealed"][query]["pushed"], query
    assert r["narrow"]["blocks_read"] == 1 and r["narrow"]["rows"] == 5
