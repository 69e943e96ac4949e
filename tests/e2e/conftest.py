"""Fixtures. A test asks for `lab` (everything by hand; `module_lab`: shared by a file) or `promscale`
(one running, own data folder)."""
import pytest

from harness import Lab, Template
from harness.process import BUILD


def pytest_configure(config):
    config.addinivalue_line("markers", "soak: minutes to hours, only with `make soak` or -m soak")


def pytest_collection_modifyitems(config, items):
    """Soak tests are not cases of the ordinary run: they are left out, not skipped."""
    if config.option.markexpr:
        return
    ordinary = [i for i in items if not i.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=[i for i in items if i not in ordinary])
    items[:] = ordinary


def pytest_sessionstart(session):
    if not (BUILD / "promscale").exists():
        raise pytest.UsageError(f"{BUILD / 'promscale'} is not built: make build (or make test)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    used = getattr(item, "funcargs", {})
    for fixture in ("lab", "module_lab"):
        if report.failed and fixture in used:
            report.sections += [(f"end of {name}", text) for name, text in used[fixture].logs()]


@pytest.fixture(scope="session")
def template():
    """A stopped promscale's data folder, to be copied."""
    it = Template()
    try:
        yield it
    finally:
        it.close()


def a_lab(template):
    """A folder of its own; whatever was started through it is ended, also when the test fails."""
    it = Lab(template)
    try:
        yield it
    finally:
        it.close()


lab = pytest.fixture(a_lab)
module_lab = pytest.fixture(a_lab, scope="module")  # for servers that all tests of a file share


@pytest.fixture
def promscale(lab):
    """A running connector on an embedded database without data."""
    return lab.promscale()
