#!/usr/bin/python3
"""How fast rows go in: PG_CONFIG=<of an installation with the extension> tests/sql/write/write_bench.py [rows]

COPY of as many rows (1,000,000) of 1000 series, by series_id and by labels, in order of time and in order of series,
into a view of prom_data and into a plain table; then single-row INSERTs in a PL/pgSQL loop.
"""
import io
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


def timed(db, target, text):
    before = db.one("SELECT pg_current_wal_insert_lsn() - '0/0'")
    start = time.monotonic()
    db.copy(target, text)
    seconds = time.monotonic() - start
    wal = db.one("SELECT pg_current_wal_insert_lsn() - '0/0'") - before
    return seconds, float(wal)


def main():
    server = Server("max_wal_size = '4GB'\nshared_buffers = '512MB'")
    try:
        db = Database(server, server.new_database("bench"))
        db.metric("m")
        db.sql("CREATE TABLE public.ids (id int8); CREATE TABLE public.heap (t timestamptz, v float8, k int8)")
        for s in range(1, SERIES + 1):
            db.sql("INSERT INTO public.ids SELECT _prom_catalog.get_or_create_series_id(%s)",
                   ('{"__name__": "m", "node": "node%d", "region": "eu-%d", "job": "bench"}' % (s, s % 7),))
        print(f"{'':34} {'rows/s':>10} {'WAL B/row':>10} {'bytes/row':>10} {'blocks':>7}")
        for columns in ("series_id", "labels"):
            for order in ("i, s", "s, i"):
                text = text_of(db, columns, order)
                db.sql("TRUNCATE _prom_data.fresh; CHECKPOINT")
                seconds, wal = timed(db, f"prom_data.m (time, value, {columns})", text)
                size = db.one("SELECT pg_total_relation_size('_prom_data.fresh')")
                blocks = db.one("SELECT count(*) FROM _prom_data.fresh")
                n = db.one("SELECT sum(n_samples) FROM _prom_data.fresh")
                assert n == ROWS, n
                print(f"COPY by {columns:10} ORDER BY {order:5}  {ROWS / seconds:10.0f} {wal / ROWS:10.2f}"
                      f" {size / ROWS:10.2f} {blocks:7}")
                if columns == "series_id" and order == "i, s":
                    seconds, wal = timed(db, "public.heap", text)
                    print(f"{'COPY into a plain table':34} {ROWS / seconds:10.0f} {wal / ROWS:10.2f}"
                          f" {db.one('SELECT pg_total_relation_size($$public.heap$$)') / ROWS:10.2f}")
        for what, row in (("series_id", f"now() + i * interval '1 s', i, {db.one('SELECT min(id) FROM public.ids')}"),
                          ("labels", "now() + i * interval '2 s', i, '{\"node\": \"node1\"}'")):
            start = time.monotonic()
            db.sql(f"DO $$BEGIN FOR i IN 1..5000 LOOP"
                   f" INSERT INTO prom_data.m (time, value, {what}) VALUES ({row}); END LOOP; END$$")
            print(f"single-row INSERT by {what:13} {5000 / (time.monotonic() - start):10.0f}")
    finally:
        server.close()


if __name__ == "__main__":
    main()
