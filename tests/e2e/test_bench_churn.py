"""bench/churn.py with a small past: label requests answer the same beside it as without it, and the index leaves
the dead out."""
import subprocess
import sys

from harness.process import ROOT, SLOW


def test_the_dead_change_no_answer():
    ran = subprocess.run([sys.executable, ROOT / "bench" / "churn.py", "--active", "5000", "--history", "200000",
                          "--rounds", "2"], stdout=subprocess.PIPE, text=True,
                         timeout=300 * SLOW)
    assert ran.returncode == 0, ran.stdout
    index = {line.split()[0]: line for line in ran.stdout.splitlines() if "index loaded" in line}
    assert index["alone"].endswith("whole: 1") and index["beside"].endswith("whole: 0"), ran.stdout
    assert 5000 <= int(index["beside"].split(" s: ")[1].split()[0]) < 10000, ran.stdout
    back = [line for line in ran.stdout.splitlines() if line.startswith("series of a metric,") and "days ago" in line]
    assert len(back) == 3 and all(int(line.split("ago")[1].split()[0]) > 0 for line in back), ran.stdout
