"""A load generator that keeps a manifest (rwload, of the folder shared beside this repository, or where
PROMSCALE_SHARED says): SQL must show its samples, by counts, sums, bounds and a hash over all of them.
"""
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from harness import compare
from harness.process import ROOT, SLOW

SOURCES = Path(os.environ.get("PROMSCALE_SHARED", ROOT.parent / "shared")) / "bench"
MASK = (1 << 64) - 1


@pytest.fixture
def rwload(lab):
    if not (SOURCES / "rwload.c").exists():
        pytest.skip(f"rwload is not at hand: no {SOURCES / 'rwload.c'}")
    program = lab.folder / "rwload"
    built = subprocess.run(["cc", "-O2", "-std=c11", "-D_GNU_SOURCE", "-w", "-o", str(program), str(SOURCES / "rwload.c"),
                            "-lsnappy", "-lpthread", "-lm"], check=False, capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip("rwload does not build here: " + built.stderr.splitlines()[-1])

    def run(*args):
        manifest = lab.folder / "manifest.json"
        done = subprocess.run([str(program), *map(str, args), "--manifest", str(manifest)], check=False,
                              capture_output=True, text=True, timeout=300 * SLOW)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(manifest.read_text())

    return run


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def hash_of_labels(labels):
    h = 0xCBF29CE484222325
    for pair in sorted(labels):
        for text in pair:
            for byte in text.encode() + b"\xff":
                h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def summary(labels, rows):
    """(samples, stale markers, sum, first, last, hash) of a series."""
    h, total, stale = hash_of_labels(labels), 0, 0
    values = []
    for ms, raw in rows:
        total += mix(h ^ mix(ms) ^ ((raw << 7 | raw >> 57) & MASK))
        if raw == compare.STALE_MARKER:
            stale += 1
        else:
            values.append(compare.number(raw))
    return len(values), stale, sum(values), min(rows)[0], max(rows)[0], total


def check(p, manifest):
    found = {}
    for labels, rows in compare.sql_series(p, manifest["t0_ms"] - 1, manifest["end_ms"] + 1).items():
        n, stale, total, first, last, h = summary(labels, rows)
        m = found.setdefault(dict(labels)["__name__"], [0, 0, 0.0, first, last, 0])
        m[:] = [m[0] + n, m[1] + stale, m[2] + total, min(m[3], first), max(m[4], last), (m[5] + h) & MASK]
    want = {name: m for name, m in manifest["metrics"].items() if m["samples"] + m["stale"] > 0}
    assert sorted(found) == sorted(want)
    for name, m in want.items():
        n, stale, total, first, last, h = found[name]
        assert (n, stale, first, last) == (m["samples"], m["stale"], m["min_ms"], m["max_ms"]), name
        assert compare.same_sum(total, m["sum"]), (name, total, m["sum"])
        assert f"{h:016x}" == m["hash"], name
    figures = compare.sql_figures(p, manifest["t0_ms"] - 1, manifest["end_ms"] + 1)
    assert {name: f[0] for name, f in figures.items()} == {name: m["samples"] for name, m in want.items() if m["samples"]}


def test_manifest(lab, rwload):
    """A small fleet whose pods come and go, by several connections, merged and sealed while it comes in."""
    p = lab.promscale(args=["--self-scrape=false"])
    done = threading.Event()
    errors = []

    def maintain():
        while not done.wait(0.2):
            try:
                p.sql("CALL prom_api.execute_maintenance(force => true)")
            except Exception as e:  # pylint: disable=broad-except
                errors.append(e)

    maintainer = threading.Thread(target=maintain, daemon=True)
    maintainer.start()
    try:
        manifest = rwload("--url", p.url + "/api/v1/write", "--targets", 4, "--interval", 60, "--duration", "4h", "--churn", 0.4,
                          "--conns", 3, "--batch", 1000)
    finally:
        done.set()
        maintainer.join(60)
    assert not errors
    assert manifest["samples"] > 400000 and manifest["stale"] > 50
    p.sql("SELECT _prom_catalog.make_metric_views(1000)")
    check(p, manifest)
    p.sql("CALL prom_api.execute_maintenance(force => true)")
    check(p, manifest)
