"""bench/catalog.py with few metrics: it runs, relations per metric are constant, and nothing is slow beyond reason."""
import importlib.util
import pathlib

import pytest

BENCH = pathlib.Path(__file__).resolve().parents[3] / "bench" / "catalog.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_catalog", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_cliff(bench):
    few = bench.main(["--metrics", "100", "--series", "10000"]).figures
    more = bench.main(["--metrics", "800", "--series", "30000"]).figures
    assert few["relations per metric"] == more["relations per metric"] == 3
    # eight times the metrics: what goes by the metric stays as it is, within what a busy machine allows
    assert more["new series"] > few["new series"] / 10  # a second
    assert more["views of one metric"] < 4 * few["views of one metric"] + 20
    assert more["prom_info, one metric"] < 4 * few["prom_info, one metric"] + 0.1
    assert more["upgrade, locks"] < few["upgrade, locks"] + 50
    assert more["prom_info, all"] < 10 and more["planning, later"] < 4 * few["planning, later"] + 0.1
