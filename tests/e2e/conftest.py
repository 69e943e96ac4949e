"""Fixtures. A test asks for `lab` (everything by hand) or `promscale` (one running, own data folder)."""
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
    lab = item.funcargs.get("lab") if hasattr(item, "funcargs") else None
    if report.failed and lab is not None:
        for name, text in lab.logs():
            report.sections.append((f"end of {name}", text))


@pytest.fixture(scope="session")
def template():
    """A stopped promscale's data folder, to be copied."""
    it = Template()
    try:
        yield it
    finally:
        it.close()


@pytest.fixture
def lab(template):
    """A folder of its own; whatever was started through it is ended, also when the test fails."""
    it = Lab(template)
    try:
        yield it
    finally:
        it.close()


@pytest.fixture
def promscale(lab):
    """A running connector on an embedded database without data."""
    return lab.promscale()
