"""Ordinary tables with the rows that metric views must show, made from what was written, and a user's own table."""
import io
import math

import psycopg2.extensions


def make_tables(db):
    """plain_u, plain_t, plain_q: the oracle; own: a user's table."""
    for table, metric in (("plain_u", "cpu_usage"), ("plain_t", "cpu_total"), ("plain_q", 'a b"c')):
        id_ = db.written.metrics[metric]
        columns = db.sql("SELECT pos, id_column_name FROM _prom_catalog.label_key_position p"
                         " JOIN _prom_catalog.label_key k ON k.id = p.key_id"
                         " WHERE metric_id = %s AND key <> '__name__' ORDER BY pos", (id_,))
        db.sql("CREATE TEMP TABLE raw (series_id int8, ms int8, value float8)")
        rows = "".join(f"{s}\t{t}\t{v!r}\n" for (m, s, t), v in db.written.samples.items() if m == metric)
        db.conn.cursor().copy_expert("COPY raw FROM STDIN", io.StringIO(rows))
        ids = "".join(f', NULLIF(labels[{pos}], 0) AS "{name}"' for pos, name in columns)
        db.sql(f"CREATE TABLE {table} AS SELECT to_timestamp(ms / 1000) + ms % 1000 * interval '1 ms' AS time, value,"
               f" series_id, labels {ids}"
               f" FROM raw JOIN _prom_catalog.series s ON s.id = series_id; DROP TABLE raw; ANALYZE {table}")
    db.sql("CREATE TABLE own AS SELECT id AS series_id, 'name ' || id % 4 AS name,"
           " now() - id % 40 * interval '1 hour' AS since FROM _prom_catalog.series WHERE id % 3 > 0")
    db.sql("INSERT INTO own VALUES (0, 'nobody', now()), (NULL, NULL, NULL); ANALYZE own")
    db.sql("GRANT SELECT ON plain_u, plain_t, plain_q, own TO prom_reader")
    assert db.one("SELECT count(*) FROM plain_u") > 1000


def tidy(value, loose):
    """A value that can be compared: NaNs and zeros are alike, sums that depend on their order roughly."""
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if loose and math.isfinite(value):
            # not the value itself: eighths and their like would often lie in the middle between two roundings
            return float(f"{value * 1.0987654321:.9g}") if abs(value) > 1e-6 else 0.0
        return value + 0.0
    if isinstance(value, list):
        return tuple(tidy(v, loose) for v in value)
    return repr(value) if isinstance(value, dict) else value


def over(text, u, t, q):
    return text.replace("{u}", u).replace("{t}", t).replace("{q}", q)


def typed_connection(db):
    """Timestamps and numerics as text: Python's own do not take infinities."""
    conn = db.connect()
    for oids in ((1184, 1114, 1082), (1185, 1115, 1182)):
        psycopg2.extensions.register_type(psycopg2.extensions.new_type(oids, "text", lambda v, c: v), conn)
    conn.cursor().execute("SET statement_timeout = '30s'; SET extra_float_digits = 1")
    return conn
