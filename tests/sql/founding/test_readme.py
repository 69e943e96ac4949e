"""The table of README.md names every test of this folder, and no other."""
import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent


def test_the_table_names_every_test():
    named = set(re.findall(r"`(test_\w+)`", (HERE / "README.md").read_text(encoding="utf-8")))
    there = {name for path in HERE.glob("test_*.py") if path != pathlib.Path(__file__).resolve()
             for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)}
    assert named == there
