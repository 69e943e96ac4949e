/*
 * fleet.h - the standard load, for bench_load.c (built first, then sent as fast as possible) and
 * bench_live_load.c (sent as time goes by): its targets and series, and messages of remote write 1.0.
 *
 * Data look like a node exporter and two small services a target: 500 series in 137 metrics, eight or
 * so labels, about 170 bytes of label text; the values are the mix that such targets show (45 %
 * constant, counters with and without decimals, page-sized gauges, few irregular floats). Same seed,
 * same data, whatever the number of connections or the size of a request.
 */
#ifndef PROMSCALE_BENCH_FLEET_H
#define PROMSCALE_BENCH_FLEET_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench/load.h"
#include "lib/model/model.h"
#include "lib/wire/wire.h"

typedef enum value_kind {
    VALUE_CONSTANT,
    VALUE_SLOW_COUNTER,  /* moves now and then */
    VALUE_BUSY_COUNTER,  /* integers, a rate with noise */
    VALUE_CENTI_COUNTER, /* two decimals: CPU seconds */
    VALUE_MILLI_COUNTER,
    VALUE_PAGES,       /* multiples of 4096 */
    VALUE_CENTI_GAUGE, /* temperatures */
    VALUE_FLOAT        /* sums of seconds with all their bits */
} value_kind;

/* One line: a group of metrics (name with a number if there are several) with the same shape. */
typedef struct metric_group {
    const char *name;
    int n_metrics;
    const char *label_a;
    int n_a;
    const char *label_b; /* NULL: one label */
    int n_b;
    value_kind kind;
} metric_group;

/* 356 series of a node exporter */
static const metric_group node_groups[] = {
    {"node_cpu_seconds_total", 1, "cpu", 8, "mode", 8, VALUE_CENTI_COUNTER},
    {"node_filesystem_bytes", 5, "mountpoint", 6, NULL, 1, VALUE_PAGES},
    {"node_network_total", 12, "device", 5, NULL, 1, VALUE_BUSY_COUNTER},
    {"node_network_errors_total", 8, "device", 5, NULL, 1, VALUE_CONSTANT},
    {"node_disk_ops_total", 10, "device", 3, NULL, 1, VALUE_BUSY_COUNTER},
    {"node_disk_seconds_total", 7, "device", 3, NULL, 1, VALUE_MILLI_COUNTER},
    {"node_systemd_unit_state", 1, "name", 12, "state", 4, VALUE_CONSTANT},
    {"node_memory_bytes", 24, NULL, 1, NULL, 1, VALUE_PAGES},
    {"node_netstat_total", 18, NULL, 1, NULL, 1, VALUE_SLOW_COUNTER},
    {"node_vmstat_total", 8, NULL, 1, NULL, 1, VALUE_BUSY_COUNTER},
    {"node_hwmon_temp_celsius", 1, "sensor", 4, NULL, 1, VALUE_CENTI_GAUGE},
    {"node_load", 3, NULL, 1, NULL, 1, VALUE_CENTI_GAUGE},
    {"node_scrape_duration_seconds", 6, NULL, 1, NULL, 1, VALUE_FLOAT},
};
/* 72 series of a service, two of them a target */
static const metric_group pod_groups[] = {
    {"http_request_duration_seconds_bucket", 1, "handler", 3, "le", 12, VALUE_BUSY_COUNTER},
    {"http_request_duration_seconds_sum", 1, "handler", 3, NULL, 1, VALUE_FLOAT},
    {"http_requests_total", 1, "handler", 3, "code", 3, VALUE_SLOW_COUNTER},
    {"process_info", 24, NULL, 1, NULL, 1, VALUE_CONSTANT},
};

typedef struct series {
    ps_buf labels; /* as fields of a TimeSeries: prebuilt, sample is added behind it */
    int metric;    /* index in the manifest */
    value_kind kind;
    uint64_t rng;
    double value;
    int64_t integer;
} series;

typedef struct metric_sum {
    char name[96];
    int64_t samples;
    long double sum;
} metric_sum;

static metric_sum sums[512];
static int n_sums;

static uint64_t
next_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static _Noreturn void
die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static inline double
now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int
sum_index(const char *name)
{
    for (int i = 0; i < n_sums; i++) {
        if (strcmp(sums[i].name, name) == 0)
            return i;
    }
    if (n_sums == (int)PS_ARRAY_LEN(sums))
        die("too many metrics");
    snprintf(sums[n_sums].name, sizeof(sums[0].name), "%s", name);
    return n_sums++;
}

/* ---- the fleet ---------------------------------------------------------------------------- */

static void
init_value(series *s)
{
    s->integer = (int64_t)(next_random(&s->rng) % 50000000);
    s->value = (double)(s->integer % 1000) / 7.0;
}

static double
step_value(series *s)
{
    uint64_t r = next_random(&s->rng);

    switch (s->kind) {
    case VALUE_CONSTANT:
        return (double)(s->integer % 3 == 0 ? s->integer % 100 : 0);
    case VALUE_SLOW_COUNTER:
        if (r % 16 == 0)
            s->integer += (int64_t)(r >> 32) % 3;
        return (double)s->integer;
    case VALUE_BUSY_COUNTER:
        s->integer += 4000 + (int64_t)(r >> 32) % 2000;
        return (double)s->integer;
    case VALUE_CENTI_COUNTER:
        s->integer += 1300 + (int64_t)(r >> 32) % 200;
        return (double)s->integer / 100.0;
    case VALUE_MILLI_COUNTER:
        s->integer += 900 + (int64_t)(r >> 32) % 300;
        return (double)s->integer / 1000.0;
    case VALUE_PAGES:
        s->integer += (int64_t)(r >> 32) % 512 - 256;
        return (double)(s->integer < 0 ? -s->integer : s->integer) * 4096.0;
    case VALUE_CENTI_GAUGE:
        s->integer += (int64_t)(r >> 32) % 21 - 10;
        return (double)(s->integer % 9000) / 100.0;
    case VALUE_FLOAT:
        s->value += (double)(r >> 11) / 9007199254740992.0 * 0.37;
        return s->value;
    }
    return 0;
}

static void
make_series(series *s, const metric_group *g, int metric, int a, int b, int target, int pod)
{
    char name[96], va[64], vb[64], instance[64], cluster[32], rack[32], uid[64];
    mdl_label labels[12];
    size_t n = 0;
    ps_buf whole;
    size_t canonical_n;
    ps_err err;

    if (g->n_metrics > 1)
        snprintf(name, sizeof(name), "%s_%02d", g->name, metric);
    else
        snprintf(name, sizeof(name), "%s", g->name);
    snprintf(instance, sizeof(instance), "host-%05d.eu-central.example:9100", target);
    snprintf(cluster, sizeof(cluster), "cluster-%02d", target % 4);
    snprintf(rack, sizeof(rack), "rack-%03d", target % 40);
    snprintf(uid, sizeof(uid), "svc-%02d-%08x", pod, (unsigned)target * 2654435761u);
    snprintf(va, sizeof(va), "%s-%d", g->label_a ? g->label_a : "", a);
    snprintf(vb, sizeof(vb), "%s-%d", g->label_b ? g->label_b : "", b);

    labels[n++] = (mdl_label){PS_STR("__name__"), ps_str_c(name)};
    labels[n++] = (mdl_label){PS_STR("instance"), ps_str_c(instance)};
    labels[n++] = (mdl_label){PS_STR("job"), pod < 0 ? PS_STR("node") : PS_STR("service")};
    labels[n++] = (mdl_label){PS_STR("cluster"), ps_str_c(cluster)};
    labels[n++] = (mdl_label){PS_STR("rack"), ps_str_c(rack)};
    labels[n++] =
        (mdl_label){PS_STR("environment"), target % 10 ? PS_STR("production") : PS_STR("staging")};
    if (pod >= 0)
        labels[n++] = (mdl_label){PS_STR("pod"), ps_str_c(uid)};
    if (g->label_a)
        labels[n++] = (mdl_label){ps_str_c(g->label_a), ps_str_c(va)};
    if (g->label_b)
        labels[n++] = (mdl_label){ps_str_c(g->label_b), ps_str_c(vb)};
    if (mdl_labels_canonical(labels, n, &(mdl_label_limits){0}, &canonical_n, &err) != PS_OK)
        die(err.text);

    ps_buf_init(&whole, &ps_malloc);
    ps_buf_init(&s->labels, &ps_malloc);
    wire_write_series(&whole, (mdl_labels){labels, canonical_n}, NULL, 0, NULL, 0);
    {
        wire_write_reader r;
        wire_item item;
        wire_series ws;
        wire_metadata md;

        wire_write_reader_init(&r, ps_buf_str(&whole));
        if (wire_write_next(&r, &item, &ws, &md, &err) != PS_OK || item != WIRE_SERIES)
            die("cannot read back a series");
        ps_buf_add_str(&s->labels, ws.label_bytes);
    }
    ps_buf_done(&whole);
    s->metric = sum_index(name);
    s->kind = g->kind;
    s->rng = UINT64_C(0x9e3779b97f4a7c15) ^ ((uint64_t)target << 32) ^ ((uint64_t)(pod + 2) << 28) ^
             ((uint64_t)metric << 18) ^ ((uint64_t)a << 9) ^ (uint64_t)b ^
             ps_hash64(ps_str_c(g->name), 1);
    if (s->rng == 0)
        s->rng = 1;
    init_value(s);
}

static size_t
add_groups(series *out, const metric_group *groups, size_t n_groups, int target, int pod)
{
    size_t n = 0;

    for (size_t g = 0; g < n_groups; g++) {
        for (int m = 0; m < groups[g].n_metrics; m++) {
            for (int a = 0; a < groups[g].n_a; a++) {
                for (int b = 0; b < groups[g].n_b; b++)
                    make_series(&out[n++], &groups[g], m, a, b, target, pod);
            }
        }
    }
    return n;
}

enum { SERIES_MAX_PER_TARGET = 600 };

static series *
make_target(int target, size_t *ret_n)
{
    series *s = calloc(SERIES_MAX_PER_TARGET, sizeof(*s));
    size_t n;

    if (s == NULL)
        die("out of memory");
    n = add_groups(s, node_groups, PS_ARRAY_LEN(node_groups), target, -1);
    n += add_groups(s + n, pod_groups, PS_ARRAY_LEN(pod_groups), target, 0);
    n += add_groups(s + n, pod_groups, PS_ARRAY_LEN(pod_groups), target, 1);
    *ret_n = n;
    return s;
}

/* ---- requests ------------------------------------------------------------------------------ */

static size_t
put_varint(char *p, uint64_t v)
{
    size_t n = 0;

    while (v >= 0x80) {
        p[n++] = (char)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (char)v;
    return n;
}

/* TimeSeries { labels..., samples { value, timestamp } } as field 1 of the request */
static inline void
add_sample(ps_buf *out, const series *s, int64_t t_ms, double v)
{
    char sample[32], head[32];
    size_t n = 0, h = 0, inner;

    sample[n++] = 0x09;
    ps_put_u64le(sample + n, ps_bits_of(v));
    n += 8;
    sample[n++] = 0x10;
    n += put_varint(sample + n, (uint64_t)t_ms);
    inner = s->labels.len + 2 + n;
    head[h++] = 0x0a;
    h += put_varint(head + h, inner);
    ps_buf_add(out, head, h);
    ps_buf_add_str(out, ps_buf_str(&s->labels));
    head[0] = 0x12;
    head[1] = (char)n;
    ps_buf_add(out, head, 2);
    ps_buf_add(out, sample, n);
}

/* ---- arguments and figures --------------------------------------------------------------- */

static inline int64_t
duration_arg(const char *text)
{
    int64_t ms;

    if (ps_parse_duration(ps_str_c(text), &ms) != PS_OK)
        die("bad duration");
    return ms;
}

#endif
