#!/usr/bin/python3
"""How fast rows go in: PG_CONFIG=<of an installation with the extension> tests/sql/write/write_bench.py [rows]

COPY of as many rows (1,000,000) of 1000 series, by series_id and by labels, in order of time and in order of series,
into a view of prom_data and into a plain table; then single-row INSERTs in a PL/pgSQL loop. CPU is the backend's.
"""
import io
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from conftest import Database, Server

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
SERIES = 1000
T0 = 1_714_521_600


def text_of(db, columns, order):
    label = """'{"node": "node' || s || '", "region": "eu-' || s %% 7 || '", "job": "bench"}'"""
    key = {"series_id": "id::text", "labels": label.replace("%%", "%")}[columns]
    db.sql(f"""CREATE OR REPLACE VIEW public.source AS SELECT to_timestamp({T0} + 15 * i) AS t, i, s,
               round((100 * sin(i / 100.0) + s)::numeric, 2)::float8 AS v, {key} AS k
               FROM (SELECT id, row_number() OVER (ORDER BY id) AS s FROM public.ids) q,
                    generate_series(1, {ROWS // SERIES}) i""")
    out = io.StringIO()
    with db.conn.cursor() as cur:
        cur.copy_expert(f"COPY (SELECT t, v, k FROM public.source ORDER BY {order}) TO STDOUT", out)
    return out.getvalue()


def cpu_seconds(db):
    fields = pathlib.Path(f"/proc/{db.conn.info.backend_pid}/stat").read_text(encoding="ascii").split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def line(what, rows, seconds, cpu, *rest):
    print(f"{what:34} {rows / seconds:9.0f} {cpu / rows * 1e6:10.2f}", *rest, flush=True)


def copy(db, what, target, table, text):
    before = db.one("SELECT pg_current_wal_insert_lsn() - '0/0'")
    start, cpu = time.monotonic(), cpu_seconds(db)
    db.copy(target, text)
    seconds, cpu = time.monotonic() - start, cpu_seconds(db) - cpu
    wal = float(db.one("SELECT pg_current_wal_insert_lsn() - '0/0'") - before)
    size = db.one(f"SELECT pg_total_relation_size('{table}')")
    line(what, ROWS, seconds, cpu, f"{wal / ROWS:10.2f} {size / ROWS:10.2f}", db.one(f"SELECT count(*) FROM {table}"))


def main():
    server = Server("max_wal_size = '4GB'\nshared_buffers = '512MB'")
    try:
        db = Database(server, server.new_database("bench"))
        db.metric("m")
        db.sql("CREATE TABLE public.ids (id int8); CREATE TABLE public.heap (t timestamptz, v float8, k int8)")
        for s in range(1, SERIES + 1):
            db.sql("INSERT INTO public.ids SELECT _prom_catalog.get_or_create_series_id(%s)",
                   ('{"__name__": "m", "node": "node%d", "region": "eu-%d", "job": "bench"}' % (s, s % 7),))
        print(f"{'':34} {'rows/s':>9} {'CPU us/row':>10} {'WAL B/row':>10} {'bytes/row':>10} stored rows")
        for columns in ("series_id", "labels"):
            for order in ("i, s", "s, i"):
                text = text_of(db, columns, order)
                db.sql("TRUNCATE _prom_data.fresh; CHECKPOINT")
                copy(db, f"COPY by {columns} ORDER BY {order}", f"prom_data.m (time, value, {columns})",
                     "_prom_data.fresh", text)
                assert db.one("SELECT sum(n_samples) FROM _prom_data.fresh") == ROWS
                if columns == "series_id" and order == "i, s":
                    copy(db, "COPY into a plain table", "public.heap", "public.heap", text)
        for what, row in (("series_id", f"now() + i * interval '1 s', i, {db.one('SELECT min(id) FROM public.ids')}"),
                          ("labels", "now() + i * interval '2 s', i, '{\"node\": \"node1\"}'")):
            start, cpu = time.monotonic(), cpu_seconds(db)
            db.sql("DO $$BEGIN FOR i IN 1..5000 LOOP"
                   f" INSERT INTO prom_data.m (time, value, {what}) VALUES ({row}); END LOOP; END$$")
            line(f"single-row INSERT by {what}", 5000, time.monotonic() - start, cpu_seconds(db) - cpu)
    finally:
        server.close()


if __name__ == "__main__":
    main()
