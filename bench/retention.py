#!/usr/bin/env python3
"""What deleting by row costs: samples of metrics with a shorter period of their own, and of series that a selector takes
out of all metrics, beside what sealing them did. CPU is that of the one backend that does it, per million samples that it
seals or removes, without the VACUUMs that follow and without what writes the samples. Then what the files have
become, before and after they are compacted, and what that costs.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

import backfill
import ingest

SIZE = "SELECT sum(pg_total_relation_size(relid))::int8 FROM pg_partition_tree('_prom_data.block') WHERE isleaf"
SAMPLES = "SELECT coalesce(sum(n_samples), 0)::int8 FROM _prom_data.block"
WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8"


class Server(backfill.Server):
    def backend_cpu(self):
        with open(f"/proc/{self.conn.info.backend_pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def steps(self, *names):
        """Runs them until nothing is left to do. CPU-s and bytes of WAL."""
        cpu, wal = self.backend_cpu(), self.one(WAL)
        for name in names:
            while True:
                outcome, detail = self.sql(f"SELECT outcome, detail FROM _prom_catalog.run_step('{name}', true)")[0]
                if outcome == "busy":
                    time.sleep(0.05)
                elif outcome == "failed":
                    sys.exit(f"{name}: {detail}")
                elif outcome != "more":
                    break
        return self.backend_cpu() - cpu, self.one(WAL) - wal

    def vacuums(self):
        time.sleep(0.2)
        for command, in self.sql("SELECT _prom_catalog.take_vacuums()"):
            self.sql(command)


def removed(server, what, rule):
    """Sets the rule, lets retention run, and says what that took."""
    server.sql(rule)
    before, size = server.one(SAMPLES), server.one(SIZE)
    cpu, wal = server.steps("retention")
    server.vacuums()
    gone = before - server.one(SAMPLES)
    hollow, live = server.one(SIZE), server.one("SELECT sum(octet_length(data) + 164)::int8 FROM _prom_data.block")
    server.sql("CHECKPOINT")  # an hour later there would have been one
    wal_before = server.one(WAL)
    compact_cpu, _ = server.steps("compact")
    server.vacuums()
    small, compact_wal = server.one(SIZE), server.one(WAL) - wal_before
    print(f"{what}: {gone / before:.0%} of {before / 1e6:.1f} M samples, {cpu / gone * 1e6:.3f} CPU-s per million removed,"
          f" {wal / gone:.2f} B of WAL each; tables {size / 1e6:.1f} MB, then {hollow / 1e6:.1f} MB"
          f" (blocks {live / 1e6:.1f} MB), compacted {small / 1e6:.1f} MB for {compact_cpu:.2f} CPU-s and, with VACUUM"
          f" and images of pages, {compact_wal / max(hollow - small, 1):.1f} B of WAL per byte given back", flush=True)


def selector(targets):
    names = "|".join(re.escape(t) for t in targets).replace("\\", "\\\\")
    return f"""SELECT prom_api.set_retention('{{instance=~"{names}"}}', '1 day')"""


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--targets", type=int, default=10, help="of 500 series each")
    p.add_argument("--days", type=int, default=3)
    p.add_argument("--interval", type=int, default=120, help="seconds between samples of a series")
    args = p.parse_args()
    subprocess.run(["make", "-s", "--no-print-directory", "-C", ingest.ROOT, "build/bench/bench_load"], check=True)
    with tempfile.TemporaryDirectory(prefix="promscale-bench-") as folder:
        os.chmod(folder, 0o755)
        server = Server(backfill.programs_of(folder))
        try:
            server.sql("SELECT _prom_catalog.set_setting('retention_grace', '0')")
            server.sql("SELECT _prom_catalog.set_setting('compact_size', '256 kB')")
            t0 = int(time.time() * 1000) // backfill.DAY * backfill.DAY - (args.days + 3) * backfill.DAY
            server.sql("SELECT prom_api.set_default_compression_setting(false)")
            n = server.send(args, t0, range(args.days), 0)
            server.steps("fold", "join", "partitions")
            server.vacuums()
            server.sql("SELECT prom_api.set_default_compression_setting(true)")
            cpu, wal = server.steps("seal")
            server.vacuums()
            print(f"sealed: {n / 1e6:.1f} M samples, {cpu / n * 1e6:.3f} CPU-s per million, {wal / n:.2f} B of WAL each",
                  flush=True)
            assert server.one(SAMPLES) == n
            targets = [r[0] for r in server.sql(
                "SELECT value FROM _prom_catalog.label l JOIN _prom_catalog.label_key k ON k.id = l.key_id"
                " WHERE k.key = 'instance' AND EXISTS (SELECT FROM _prom_catalog.series s WHERE s.labels @> ARRAY[l.id])"
                " ORDER BY l.id")]
            print(f"{server.one('SELECT count(*) FROM _prom_catalog.metric')} metrics", flush=True)
            removed(server, "metrics with a period of their own", "SELECT count(prom_api.set_metric_retention_period("
                    "metric_name, '1 day')) FROM _prom_catalog.metric WHERE id % 3 = 0")
            removed(server, "by selector, one target", selector(targets[:1]))
            removed(server, "by selector, half of the targets", selector(targets[:len(targets) // 2]))
            cpu, _ = server.steps("retention")
            print(f"once more, with nothing to remove: {cpu:.2f} CPU-s", flush=True)
        finally:
            server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
