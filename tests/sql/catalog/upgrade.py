"""A next version of the extension, made of this one: every function replaced by itself, and all views due to be made
anew, with one more column in prom_series. For tests and measurements; the script lies in the private copy of PostgreSQL.
"""
import contextlib
import pathlib
import subprocess

from cluster import PG_CONFIG

NEXT = "0.1.1"


def statements(script):
    """Splits SQL at semicolons, outside of comments, quotes and bodies."""
    at = begin = 0
    while at < len(script):
        if script.startswith("--", at):
            at = script.find("\n", at) + 1 or len(script)
        elif script[at] == "'":
            at = script.index("'", at + 1) + 1
        elif script.startswith("$$", at):
            at = script.index("$$", at + 2) + 2
        elif script[at] == ";":
            yield script[begin:at + 1]
            begin = at = at + 1
        else:
            at += 1


def code_of(statement):
    """Without the comments in front of it."""
    lines = statement.split("\n")
    while lines and (not lines[0].strip() or lines[0].startswith(("--", "\\"))):
        lines.pop(0)
    return "\n".join(lines)


@contextlib.contextmanager
def next_version():
    """Installed meanwhile: how many functions it replaces."""
    folder = pathlib.Path(subprocess.check_output([PG_CONFIG, "--sharedir"], text=True).strip(), "extension")
    current = next(line.split("'")[1] for line in (folder / "promscale.control").read_text(encoding="utf-8").splitlines()
                   if line.startswith("default_version"))
    functions = [s.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
                 for s in map(code_of, statements((folder / f"promscale--{current}.sql").read_text(encoding="utf-8")))
                 if s.startswith("CREATE FUNCTION")]
    here = [i for i, f in enumerate(functions) if f.startswith("CREATE OR REPLACE FUNCTION _prom_catalog.make_views_of(")]
    old = "labels%s FROM _prom_catalog.series"
    assert len(here) == 1 and functions[here[0]].count(old) == 1
    functions[here[0]] = functions[here[0]].replace(old, "labels%s, 1 AS in_next_version FROM _prom_catalog.series")
    path = folder / f"promscale--{current}--{NEXT}.sql"
    path.write_text("\n".join([*functions, "SELECT _prom_catalog.remake_views();\n"]), encoding="utf-8")
    try:
        yield len(functions)
    finally:
        path.unlink()
