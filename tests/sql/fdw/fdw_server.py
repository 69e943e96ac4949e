"""A PostgreSQL with the extension's SQL parts run as they stand, with the library's path put in place of
MODULE_PATHNAME, so that no installation is needed and none is disturbed.
"""

import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from cluster import PG_CONFIG, Cluster

ROOT = pathlib.Path(__file__).resolve().parents[3]
PARTS = ["010-schemas-and-roles", "020-catalog", "030-blocks", "050-samples", "056-time"]


def library():
    if "PROMSCALE_LIBRARY" in os.environ:
        return pathlib.Path(os.environ["PROMSCALE_LIBRARY"])
    version = subprocess.check_output([PG_CONFIG, "--version"], text=True).split()[1].split(".")[0]
    return ROOT / "build" / f"extension-{version}" / "promscale.so"


class Server(Cluster):
    def __init__(self):
        super().__init__("jit = off")
        # the server's user may not reach the build folder
        self.library = self.dir / "promscale.so"
        shutil.copy(library(), self.library)
        self.library.chmod(0o755)

    def create(self, database, everything=False):
        """everything: also catalog functions, views, maintenance; without what CREATE EXTENSION must do."""
        self.new_database(database, script=None)
        conn = self.connect(database)
        for path in sorted((ROOT / "extension" / "sql").glob("[0-9]*.sql")):
            if path.stem == "095-dump" or not (everything or path.stem in PARTS):
                continue
            text = path.read_text()
            conn.cursor().execute(text.replace("MODULE_PATHNAME", str(self.library)))
        conn.close()
