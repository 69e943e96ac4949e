"""The type prom_api.histogram: text, binary, jsonb; functions, operators, aggregates."""
import io
import math
import random
import struct

import psycopg2
import pytest

H = "{{schema:1 count:5 sum:18.4 buckets:[2 3]}}"

TEXTS = [
    "{{schema:0 count:0 sum:0}}",
    H,
    "{{schema:-4 count:1.5 sum:-0.5 z_bucket:0.5 z_bucket_w:0.001 n_buckets:[1] n_offset:-3}}",
    "{{schema:8 count:7 sum:1e+100 buckets:[1 0 0 0 6] offset:-120}}",
    "{{schema:3 count:NaN sum:+Inf buckets:[1 2] counter_reset_hint:gauge}}",
    "{{schema:-53 count:4 sum:6 custom_values:[0.5 1 2.5] buckets:[1 0 2 1]}}",
    "{{schema:-53 count:4 sum:6 custom_values:[-5 1] buckets:[4] offset:2 counter_reset_hint:not_reset}}",
    "{{schema:2 count:-1 sum:-0 z_bucket:1e-09 z_bucket_w:5e-324 buckets:[-1 0.1] counter_reset_hint:reset}}",
]


def value(text):
    return f"'{text}'::prom_api.histogram"


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(shared_db, text):
    assert shared_db.one(f"SELECT {value(text)}::text") == text
    assert shared_db.one(f"SELECT {value(text)} = {value(text)}") is True
    sent = bytes(shared_db.one(f"SELECT _prom_ext.histogram_send({value(text)})"))
    assert sent[0] == 1


def test_other_spellings_of_a_value(shared_db):
    def same(a, b):
        return shared_db.one(f"SELECT {value(a)} = {value(b)}")
    assert same("{{ sum:18.4   buckets:[2 3]\n schema:1 count:5 }}", H)
    assert same(" {{buckets:[0 2 3 0] offset:-1 sum:18.4 schema:1 count:5}} ", H), "empty buckets are none"
    assert same(H[:-2] + " counter_reset_hint:reset}}", H), "hints do not count"
    assert not same(H.replace("2 3", "3 2"), H)
    assert not same(H.replace("18.4", "18.400000000000002"), H)
    assert shared_db.one(f"SELECT {value(H)} <> {value(H.replace('2 3', '3 2'))}") is True


@pytest.mark.parametrize("text", [
    "", "{", "{{", "{{}", "{}", "{{} }", "schema:1", "{{schema:9}}", "{{schema:1 schema:1}}", "{{bogus:1}}", "{{count:}}",
    "{{buckets:[1}}", "{{count:1x}}", "{{schema:-53 custom_values:[2 1]}}", "{{custom_values:[1]}}",
    "{{z_bucket_w:-1}}", "{{buckets:[1] offset:999999999}}", "{{counter_reset_hint:maybe}}",
])
def test_text_that_is_none(shared_db, text):
    e = shared_db.error("SELECT %s::prom_api.histogram", (text,))
    assert e.pgcode == "22P02", e
    assert e.diag.message_hint


def test_binary_keeps_what_text_cannot(shared_db):
    db = shared_db
    db.sql("CREATE TEMP TABLE h (h prom_api.histogram)")
    stale = bytearray(db.one(f"SELECT _prom_ext.histogram_send({value(H)})"))
    stale[3:11] = struct.pack("<Q", 0x7FF0000000000002)  # version, flags, schema, then the sum
    stale[1] |= 4
    cur = db.conn.cursor()
    row = struct.pack(">hi", 1, len(stale)) + bytes(stale)
    cur.copy_expert("COPY h FROM STDIN (FORMAT binary)",
                    io.BytesIO(b"PGCOPY\n\xff\r\n\0" + bytes(8) + row + struct.pack(">h", -1)))
    assert bytes(db.one("SELECT _prom_ext.histogram_send(h) FROM h")) == bytes(stale)
    assert db.one("SELECT prom_api.is_stale_marker(prom_api.histogram_sum(h)) FROM h") is True


def test_bytes_are_hostile(shared_db):
    """Damaged values, by binary COPY and as stored bytes, are refused or read as something: nothing else."""
    db = shared_db
    rng = random.Random(7)
    db.sql("CREATE TEMP TABLE damaged (h prom_api.histogram)")
    good = [bytes(db.one(f"SELECT _prom_ext.histogram_send({value(t)})")) for t in TEXTS]
    cur = db.conn.cursor()
    refused = taken = 0
    for _ in range(3000):
        raw = bytearray(rng.choice(good))
        for _ in range(rng.choice([1, 1, 2, 5])):
            what = rng.randrange(4)
            if what == 0 and raw:
                raw[rng.randrange(len(raw))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
            elif what == 1:
                raw = raw[:rng.randrange(len(raw) + 1)]
            elif what == 2:
                raw += rng.randbytes(rng.randrange(1, 9))
            elif raw:
                at = rng.randrange(len(raw))
                raw[at:at] = bytes([255] * rng.randrange(1, 9))
        row = struct.pack(">hi", 1, len(raw)) + bytes(raw)
        try:
            cur.copy_expert("COPY damaged FROM STDIN (FORMAT binary)",
                            io.BytesIO(b"PGCOPY\n\xff\r\n\0" + bytes(8) + row + struct.pack(">h", -1)))
            taken += 1
        except psycopg2.Error as e:
            assert e.pgcode in ("22P03", "53200"), (e, bytes(raw).hex())
            refused += 1
    assert refused > 1000 and taken > 50
    # what was taken is a histogram: all functions have an answer
    assert db.one("SELECT count(*) FROM damaged WHERE histogram_quantile(0.5, h) IS NOT NULL"
                  " AND h::jsonb IS NOT NULL AND histogram_stdvar(h) IS NOT NULL AND h = h IS NOT NULL") == taken


def test_jsonb_is_that_of_the_http_api(shared_db):
    text = ("{{schema:0 count:9 sum:18.4 z_bucket:2 z_bucket_w:0.001 buckets:[1 0 3] n_buckets:[3]}}")
    assert shared_db.one(f"SELECT {value(text)}::jsonb") == {
        "count": "9", "sum": "18.4",
        "buckets": [[1, "-1", "-0.5", "3"], [3, "-0.001", "0.001", "2"], [0, "0.5", "1", "1"], [0, "2", "4", "3"]]}
    assert shared_db.one(f"SELECT {value('{{sum:NaN count:0}}')}::jsonb") == {"count": "0", "sum": "NaN"}


def test_buckets_are_rows(shared_db):
    text = "{{schema:-53 count:4 sum:6 custom_values:[0.5 1 2.5] buckets:[1 0 2 1]}}"
    assert shared_db.sql(f"SELECT * FROM histogram_buckets({value(text)})") == [
        (-math.inf, 0.5, 1, True, True), (1, 2.5, 2, False, True), (2.5, math.inf, 1, False, True)]


def test_numbers(shared_db):
    """schema 0, buckets (0.5,1], (1,2], (2,4]: a quantile is on the exponential curve within its bucket."""
    h = value("{{schema:0 count:8 sum:14 buckets:[2 4 2]}}")
    one = shared_db.one
    assert one(f"SELECT histogram_count({h})") == 8
    assert one(f"SELECT histogram_sum({h})") == 14
    assert one(f"SELECT histogram_avg({h})") == 14 / 8
    assert one(f"SELECT histogram_quantile(0.5, {h})") == pytest.approx(2 ** 0.5)
    assert one(f"SELECT histogram_quantile(0.25, {h})") == pytest.approx(1)
    assert one(f"SELECT histogram_quantile(1, {h})") == 4
    assert one(f"SELECT histogram_quantile(2, {h})") == math.inf
    assert one(f"SELECT histogram_fraction(1, 4, {h})") == pytest.approx(0.75)
    # each observation counts at the geometric mean of its bucket
    mids = [0.5 ** 0.5] * 2 + [2 ** 0.5] * 4 + [8 ** 0.5] * 2
    variance = sum((m - 14 / 8) ** 2 for m in mids) / 8
    assert one(f"SELECT histogram_stdvar({h})") == pytest.approx(variance)
    assert one(f"SELECT histogram_stddev({h})") == pytest.approx(variance ** 0.5)
    assert one("SELECT histogram_count(NULL)") is None


def test_quantile_and_fraction_are_inverse(shared_db):
    rng = random.Random(11)
    for _ in range(30):
        counts = [rng.choice([0, 1, 5, 1000]) for _ in range(rng.randrange(1, 12))]
        h = value(f"{{{{schema:{rng.randrange(-4, 9)} count:{sum(counts) + 2} sum:{rng.uniform(-9, 99)} z_bucket:2"
                  f" z_bucket_w:1e-300 buckets:[{' '.join(map(str, counts))}] offset:{rng.randrange(-5, 5)}}}}}")
        total = shared_db.one(f"SELECT sum(count) FROM histogram_buckets({h})")
        assert total == sum(counts) + 2
        quantiles = shared_db.sql(f"SELECT histogram_quantile(q, {h}) FROM generate_series(0.0, 1.0, 0.1) q")
        assert quantiles == sorted(quantiles), "quantiles ascend"
        for tenth, (x,) in enumerate(quantiles):
            below = shared_db.one(f"SELECT histogram_fraction('-Infinity', %s, {h})", (x,))
            assert below == pytest.approx(tenth / 10, abs=1e-6) or total == 2


def test_operators(shared_db):
    def same(expression, text):
        got = shared_db.one(f"SELECT ({expression})::text")
        assert got == text
    a, b = value("{{schema:1 count:5 sum:10 buckets:[2 3]}}"), value("{{schema:1 count:4 sum:6 buckets:[1 3] offset:1}}")
    same(f"{a} + {b}", "{{schema:1 count:9 sum:16 buckets:[2 4 3]}}")
    same(f"({a} + {b}) - {b}", "{{schema:1 count:5 sum:10 buckets:[2 3] counter_reset_hint:gauge}}")
    same(f"{a} * 2", "{{schema:1 count:10 sum:20 buckets:[4 6]}}")
    same(f"2.0::float8 * {a}", "{{schema:1 count:10 sum:20 buckets:[4 6]}}")
    same(f"{a} / 2", "{{schema:1 count:2.5 sum:5 buckets:[1 1.5]}}")
    assert shared_db.one(f"SELECT {a} + NULL::prom_api.histogram") is None


CUSTOM = "{{schema:-53 count:1 sum:1 custom_values:[%s] buckets:[1]}}"


def test_what_cannot_be_combined(shared_db):
    e = shared_db.error(f"SELECT {value(H)} + {value(CUSTOM % 1)}")
    assert e.pgcode == "22000" and "custom buckets" in str(e)
    e = shared_db.error(f"SELECT sum(h) FROM (VALUES ({value(H)}), ({value(CUSTOM % 1)})) v (h)")
    assert e.pgcode == "22000"
    said = shared_db.notices(f"SELECT {value(CUSTOM % '1 2')} + {value(CUSTOM % '1 3')}")
    assert len(said) == 1 and said[0].startswith("NOTICE") and "in common" in said[0]
    said = shared_db.notices(f"SELECT sum(h) FROM (SELECT unnest(ARRAY[{value(CUSTOM % '1 2')},"
                             f" {value(CUSTOM % '1 3')}]) AS h FROM generate_series(1, 50)) v")
    assert len(said) == 1, "once, not by row"


def test_aggregates(shared_db):
    db = shared_db
    rows = "(VALUES ('{{schema:1 count:5 sum:10 buckets:[2 3]}}'::prom_api.histogram), (NULL)," \
           " ('{{schema:0 count:4 sum:6 buckets:[1 3]}}')) v (h)"
    assert db.one(f"SELECT sum(h)::text FROM {rows}") == "{{schema:0 count:9 sum:16 buckets:[3 6]}}"
    assert db.one(f"SELECT avg(h)::text FROM {rows}") == "{{schema:0 count:4.5 sum:8 buckets:[1.5 3]}}"
    assert db.one(f"SELECT sum(h) FROM {rows} WHERE h IS NULL") is None
    assert db.one(f"SELECT histogram_count(sum(h)) FROM {rows}, generate_series(1, 1000)") == 9000
    # as a window function the state is used again after each result
    assert db.column(f"SELECT histogram_count(sum(h) OVER (ORDER BY histogram_count(h) DESC)) FROM {rows}"
                     " WHERE h IS NOT NULL") == [5, 9]


def test_increase(shared_db):
    def increase(*texts, order=""):
        rows = ", ".join(f"({i}, '{t}'::prom_api.histogram)" for i, t in enumerate(texts))
        return shared_db.one(f"SELECT histogram_increase(h ORDER BY i {order})::text FROM (VALUES {rows}) v (i, h)")

    def h(*counts, extra=""):
        return f"{{{{schema:0 count:{sum(counts)} sum:{sum(counts)} buckets:[{' '.join(map(str, counts))}]{extra}}}}}"

    def grown(*counts):
        return h(*counts, extra=" counter_reset_hint:gauge")

    assert increase(h(1, 2), h(2, 2), h(4, 5)) == grown(3, 3)
    assert increase(h(1, 2), h(5, 5), h(1, 1), h(2, 2)) == grown(6, 5), "4 3, then from nothing to 2 2"
    assert increase(h(9, 9), h(9, 10, extra=" counter_reset_hint:reset")) == grown(9, 10), "the hint says so"
    assert increase(h(3, 3), h(2, 2), h(1, 1)) == grown(3, 3), "two resets"
    assert increase(h(3, 3)) == "{{schema:0 count:0 sum:0 counter_reset_hint:gauge}}"
    # many rows: what is held does not grow with them
    got = shared_db.one("SELECT histogram_increase(format('{{schema:0 count:%s sum:%s buckets:[%s]}}', i, i, i)"
                        "::prom_api.histogram ORDER BY i)::text FROM generate_series(1, 30000) i")
    assert got == grown(29999)
    said = shared_db.notices(f"SELECT histogram_increase(h) FROM (VALUES ({value(grown(1))})) v (h)")
    assert len(said) == 1 and "gauges" in said[0]


def test_rights(db):
    db.sql("CREATE ROLE reads_histograms LOGIN IN ROLE prom_reader; CREATE ROLE nobody_at_all LOGIN")
    try:
        reader, nobody = db.connect("reads_histograms"), db.connect("nobody_at_all")
        cur = reader.cursor()
        cur.execute(f"SELECT histogram_quantile(0.5, sum(h)), ({value(H)} + {value(H)})::jsonb"
                    f" FROM (VALUES ({value(H)})) v (h)")
        assert cur.fetchall()
        with pytest.raises(psycopg2.Error, match="permission denied"):
            nobody.cursor().execute(f"SELECT prom_api.histogram_count({value(H)})")
        reader.close()
        nobody.close()
    finally:
        db.sql("DROP ROLE reads_histograms; DROP ROLE nobody_at_all")


def test_wide_gaps_and_long_lists(shared_db):
    text = "{{schema:8 count:2 sum:1 buckets:[1" + " 0" * 30000 + " 1]}}"
    assert shared_db.one(f"SELECT {value(text)}::text") == text
    assert shared_db.one(f"SELECT count(*) FROM histogram_buckets({value(text)})") == 2
    assert shared_db.one(f"SELECT length(_prom_ext.histogram_send({value(text)}))") < 31000
