/*
 * bench_kinds_load.c - samples of one kind of data, for what they take on disk (disk.py).
 *
 * A kind is a shape of values; a fleet is the mix of them that a node exporter with its services shows. Values are
 * modelled on what such programs report: counts arrive at random around a rate that drifts and follows the day, gauges
 * walk or return to a mean, measured floats have all their bits, classic histograms count each request in all buckets
 * above it. Same seed, same data.
 *
 * Scrapes are made and sent while time goes on, target by target: memory does not grow with the duration. Threads
 * share the targets. 503 is sent again; any other refusal ends the program.
 */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <time.h>

#include "bench/load.h"
#include "lib/model/model.h"
#include "lib/wire/wire.h"

typedef enum shape {
    IDLE,          /* constant; one of ten changes now and then */
    COUNTER,       /* integers, rates of 1 to 10^6 a scrape */
    DECIMAL,       /* counters of seconds with 2, 3 or 9 decimals */
    GAUGE,         /* integers around a mean: connections, goroutines */
    PAGES,         /* multiples of 4096 that walk */
    DECIMAL_GAUGE, /* 1 or 2 decimals that walk */
    FLOATS,        /* all bits: sums of seconds, ratios */
    BUCKETS,       /* 12 cumulative buckets in a row */
    SHAPES
} shape;

enum { N_BUCKETS = 12, PER_TARGET = 500, MAX_CONNS = 16 };

typedef struct kind {
    const char *name;
    unsigned of[SHAPES]; /* how many of 100 series; multiples of 12 where there are buckets */
    bool irregular;      /* scrapes at any time within a second of the grid */
} kind;

static const kind kinds[] = {
    {"fleet", {[IDLE] = 40, [COUNTER] = 18, [DECIMAL] = 12, [GAUGE] = 6, [PAGES] = 8,
               [DECIMAL_GAUGE] = 2, [FLOATS] = 2, [BUCKETS] = 12}, false},
    {"idle", {[IDLE] = 100}, false},
    {"counters", {[COUNTER] = 100}, false},
    {"decimal-counters", {[DECIMAL] = 100}, false},
    {"gauges", {[GAUGE] = 60, [PAGES] = 40}, false},
    {"decimal-gauges", {[DECIMAL_GAUGE] = 100}, false},
    {"floats", {[FLOATS] = 100}, false},
    {"buckets", {[BUCKETS] = 100}, false},
    {"irregular", {[IDLE] = 40, [COUNTER] = 18, [DECIMAL] = 12, [GAUGE] = 6, [PAGES] = 8,
                   [DECIMAL_GAUGE] = 2, [FLOATS] = 2, [BUCKETS] = 12}, true},
};

typedef struct series {
    ps_buf labels; /* as fields of a TimeSeries */
    shape shape;
    unsigned variant;
    uint64_t rng;
    double rate, drift, mean;
    double at; /* what the shape keeps: an integer but for FLOATS */
} series;

typedef struct target {
    series *items;
    uint64_t rng;
    int64_t offset_ms;
    double phase;
} target;

typedef struct options {
    load_server to;
    const kind *kind;
    int targets, per_target, width, conns, batch;
    int64_t interval_ms, duration_ms, t0_ms;
    double jitter;
} options;

typedef struct sender {
    const options *opt;
    target *targets;
    int first, step;
    int64_t sent;
    pthread_t thread;
} sender;

static _Noreturn void
die(const char *what)
{
    fprintf(stderr, "bench_kinds_load: %s\n", what);
    exit(1);
}

/* ---- random numbers ------------------------------------------------------------------------ */

static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double
unit(uint64_t *state)
{
    return (double)(next_random(state) >> 11) * 0x1p-53;
}

/* Four uniforms come close enough to a normal distribution. */
static double
normal(uint64_t *s)
{
    return (unit(s) + unit(s) + unit(s) + unit(s) - 2) * 1.7320508;
}

/* How many of a Poisson process with this mean. */
static double
arrivals(uint64_t *s, double mean)
{
    if (mean > 30)
        return fmax(0, floor(mean + sqrt(mean) * normal(s) + 0.5));
    double p = exp(-mean), left = unit(s), n = 0;
    while (left > p && n < 200) {
        left -= p;
        n++;
        p *= mean / n;
    }
    return n;
}

/* ---- values -------------------------------------------------------------------------------- */

static const double bucket_share[N_BUCKETS] = {.22, .20,  .24,  .14,   .09,  .06,
                                               .028, .012, .006, .0025, .001, .0005};

static void
begin(series *s, shape made, unsigned variant)
{
    uint64_t *r = &s->rng;

    s->shape = made;
    s->variant = variant;
    s->drift = 1;
    s->rate = pow(10, 6 * unit(r));
    s->mean = pow(10, 1 + 3 * unit(r));
    s->at = floor(pow(10, 3 + 5 * unit(r)));
    if (made == IDLE)
        s->at = unit(r) < 0.6 ? (unit(r) < 0.5) : s->at;
    else if (made == DECIMAL)
        s->rate = variant % 3 == 0 ? pow(10, 3.0 * unit(r))
                                   : pow(10, variant % 3 == 1 ? 3.5 * unit(r) : 7 + 2 * unit(r));
    else if (made == GAUGE || made == FLOATS)
        s->at = s->mean;
    else if (made == PAGES)
        s->at = floor(pow(10, 3 + 4 * unit(r)));
    else if (made == DECIMAL_GAUGE)
        s->at = floor(s->mean * 10);
}

/* Value of a scrape; load is what the day makes of rates. */
static double
step(series *s, double load)
{
    static const double scale[3] = {100, 1000, 1e9};
    uint64_t *r = &s->rng;

    s->drift = fmin(3, fmax(0.3, s->drift * (1 + 0.04 * (unit(r) - 0.5))));
    switch (s->shape) {
    case IDLE:
        if (s->variant % 10 == 9 && unit(r) < 0.01)
            s->at += 1;
        return s->at;
    case COUNTER:
        /* bursts: requests do not come one by one */
        s->at += arrivals(r, s->rate * load * s->drift * (1 + 0.15 * normal(r)));
        return s->at;
    case DECIMAL:
        s->at += fmax(0, floor(s->rate * load * s->drift * (1 + 0.2 * normal(r)) + unit(r)));
        return s->at / scale[s->variant % 3];
    case GAUGE:
        s->at += 0.05 * (s->mean - s->at) + 0.03 * s->mean * normal(r);
        return fmax(0, floor(s->at + 0.5));
    case PAGES:
        s->at = fmax(0, floor(s->at * (1 + 0.002 * normal(r)) + 0.5));
        return s->at * 4096;
    case DECIMAL_GAUGE:
        s->at = fmax(0, s->at + floor(0.01 * (s->mean * 10 - s->at) + 6 * normal(r) + 0.5));
        return s->at / (s->variant % 2 ? 100 : 10);
    case FLOATS:
        if (s->variant % 2)
            s->at += arrivals(r, 20) * s->mean * 1e-3 * (0.5 + unit(r));
        else
            s->at = s->mean * (1 + 0.1 * normal(r)) / 3;
        return s->at;
    case BUCKETS: {
        double below = s->variant % N_BUCKETS == 0 ? 0 : s[-1].drift, all = 0;
        /* drift is how many came into this bucket and those below it since the last scrape */
        if (s->variant % N_BUCKETS == 0)
            s->mean = pow(s->rate, 0.5) * load * (1 + 0.3 * normal(r));
        else
            s->mean = s[-1].mean;
        all = arrivals(r, fmax(0, s->mean) * bucket_share[s->variant % N_BUCKETS]);
        s->drift = below + all;
        s->at += s->drift;
        return s->at;
    }
    case SHAPES:
        break;
    }
    return 0;
}

/* ---- series -------------------------------------------------------------------------------- */

static void
label_series(series *s, int host, unsigned index, unsigned width)
{
    static const char *const names[SHAPES] = {"idle",  "requests_total", "seconds_total",
                                              "open",  "bytes",          "load",
                                              "ratio", "duration_seconds_bucket"};
    static const char *const le[N_BUCKETS] = {"0.005", "0.01", "0.025", "0.05", "0.1", "0.25",
                                              "0.5",   "1",    "2.5",   "5",    "10",  "+Inf"};
    char name[64], instance[64], device[32], cluster[32];
    mdl_label labels[8];
    size_t n = 0, canonical_n;
    ps_buf whole;
    ps_err err;
    wire_write_reader reader;
    wire_item item;
    wire_series ws;
    wire_metadata md;

    snprintf(name, sizeof name, "bench_%02u_%s", index / width, names[s->shape]);
    snprintf(instance, sizeof instance, "host-%05d.eu-central.example:9100", host);
    snprintf(cluster, sizeof cluster, "cluster-%02d", host % 4);
    snprintf(device, sizeof device, "device-%u",
             s->shape == BUCKETS ? index % width / N_BUCKETS : index % width);
    labels[n++] = (mdl_label){PS_STR("__name__"), ps_str_c(name)};
    labels[n++] = (mdl_label){PS_STR("instance"), ps_str_c(instance)};
    labels[n++] = (mdl_label){PS_STR("job"), PS_STR("node")};
    labels[n++] = (mdl_label){PS_STR("cluster"), ps_str_c(cluster)};
    labels[n++] = (mdl_label){PS_STR("device"), ps_str_c(device)};
    if (s->shape == BUCKETS)
        labels[n++] = (mdl_label){PS_STR("le"), ps_str_c(le[s->variant % N_BUCKETS])};
    if (mdl_labels_canonical(labels, n, &(mdl_label_limits){0}, &canonical_n, &err) != PS_OK)
        die(err.text);
    ps_buf_init(&whole, &ps_malloc);
    ps_buf_init(&s->labels, &ps_malloc);
    wire_write_series(&whole, (mdl_labels){labels, canonical_n}, NULL, 0, NULL, 0);
    wire_write_reader_init(&reader, ps_buf_str(&whole));
    if (wire_write_next(&reader, &item, &ws, &md, &err) != PS_OK || item != WIRE_SERIES)
        die("cannot read back a series");
    ps_buf_add_str(&s->labels, ws.label_bytes);
    ps_buf_done(&whole);
}

/* Shapes in runs of 12, each as often as the kind wants it. */
static void
make_target(const options *opt, target *t, int number)
{
    const kind *k = opt->kind;
    unsigned given[SHAPES] = {0}, n = (unsigned)opt->per_target;
    shape now = IDLE;

    t->items = calloc(n, sizeof *t->items);
    if (t->items == NULL)
        die("out of memory");
    t->rng = (uint64_t)number * 7919 + 5;
    t->offset_ms = (int64_t)(next_random(&t->rng) % (uint64_t)opt->interval_ms);
    t->phase = unit(&t->rng) * 0.2;
    for (unsigned i = 0; i < n; i++) {
        series *s = &t->items[i];
        if (i % N_BUCKETS == 0) {
            double most = -1e9;
            for (unsigned c = 0; c < SHAPES; c++) {
                double lack = (i + N_BUCKETS) * k->of[c] / 100.0 - given[c];
                if (k->of[c] > 0 && lack > most) {
                    most = lack;
                    now = (shape)c;
                }
            }
        }
        s->rng = ((uint64_t)number << 20) + i + 1;
        begin(s, now, now == BUCKETS ? i % N_BUCKETS : given[now]);
        given[now]++;
        label_series(s, number, i, (unsigned)opt->width);
    }
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
static void
add_sample(ps_buf *out, const series *s, int64_t t_ms, double v)
{
    char sample[32], head[16];
    size_t n = 0, h = 0;

    sample[n++] = 0x09;
    ps_put_u64le(sample + n, ps_bits_of(v));
    n += 8;
    sample[n++] = 0x10;
    n += put_varint(sample + n, (uint64_t)t_ms);
    head[h++] = 0x0a;
    h += put_varint(head + h, s->labels.len + 2 + n);
    ps_buf_add(out, head, h);
    ps_buf_add_str(out, ps_buf_str(&s->labels));
    ps_buf_add_char(out, 0x12);
    ps_buf_add_char(out, (char)n);
    ps_buf_add(out, sample, n);
}

static void
post(const options *opt, int *fd, ps_buf *message, ps_buf *packed)
{
    ps_err err;

    ps_buf_clear(packed);
    if (message->failed || wire_snappy_encode(ps_buf_str(message), packed, &err) != PS_OK)
        die("cannot compress");
    for (int attempt = 0;; attempt++) {
        int status = load_send(*fd, &opt->to, ps_buf_str(packed)) ? load_answer(*fd) : -1;
        if (status == 200 || status == 204)
            break;
        if ((status != -1 && status != 503) || attempt == 300)
            die("a request was refused");
        usleep(100000);
        if (status == -1) {
            if (*fd >= 0)
                close(*fd);
            *fd = load_dial(&opt->to);
        }
    }
    ps_buf_clear(message);
}

/* When target t is scraped that should be at `grid`. */
static int64_t
scrape_time(const options *opt, target *t, int64_t grid)
{
    double r = unit(&t->rng);
    int64_t late = (int64_t)(next_random(&t->rng) >> 33);

    if (opt->kind->irregular)
        return grid + late % 1000;
    return r < opt->jitter ? grid + 1 + late % 20 : grid;
}

static void *
run_sender(void *arg)
{
    sender *w = arg;
    const options *opt = w->opt;
    ps_buf message, packed;
    int fd = load_dial(&opt->to), pending = 0;

    ps_buf_init(&message, &ps_malloc);
    ps_buf_init(&packed, &ps_malloc);
    for (int64_t at = 0; at < opt->duration_ms; at += opt->interval_ms) {
        for (int i = w->first; i < opt->targets; i += w->step) {
            target *t = &w->targets[i];
            int64_t t_ms = scrape_time(opt, t, opt->t0_ms + at + t->offset_ms);
            double day = fmod((double)t_ms / 86400000.0 + t->phase, 1);
            double load = 0.6 + 3.2 * day * (1 - day);
            for (int k = 0; k < opt->per_target; k++) {
                add_sample(&message, &t->items[k], t_ms, step(&t->items[k], load));
                w->sent++;
                if (++pending == opt->batch) {
                    post(opt, &fd, &message, &packed);
                    pending = 0;
                }
            }
        }
    }
    if (pending > 0)
        post(opt, &fd, &message, &packed);
    ps_buf_done(&message);
    ps_buf_done(&packed);
    if (fd >= 0)
        close(fd);
    return NULL;
}

/* ---- program ------------------------------------------------------------------------------- */

static const kind *
kind_named(const char *name)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    die("no such kind (see --kinds)");
}

static int64_t
duration_arg(const char *text)
{
    int64_t ms;

    if (ps_parse_duration(ps_str_c(text), &ms) != PS_OK)
        die("bad duration");
    return ms;
}

static void
parse_args(options *opt, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *k = argv[i], *v = argv[i + 1];

        if (strcmp(k, "--url") == 0)
            load_parse_url(&opt->to, v);
        else if (strcmp(k, "--kind") == 0)
            opt->kind = kind_named(v);
        else if (strcmp(k, "--targets") == 0)
            opt->targets = atoi(v);
        else if (strcmp(k, "--series") == 0) /* of a target */
            opt->per_target = atoi(v);
        else if (strcmp(k, "--width") == 0) /* series of a target in a metric */
            opt->width = atoi(v);
        else if (strcmp(k, "--conns") == 0)
            opt->conns = atoi(v);
        else if (strcmp(k, "--batch") == 0)
            opt->batch = atoi(v);
        else if (strcmp(k, "--duration") == 0)
            opt->duration_ms = duration_arg(v);
        else if (strcmp(k, "--interval") == 0)
            opt->interval_ms = duration_arg(v);
        else if (strcmp(k, "--t0") == 0)
            opt->t0_ms = strtoll(v, NULL, 10) * 1000;
        else if (strcmp(k, "--jitter") == 0)
            opt->jitter = strtod(v, NULL);
        else
            die("unknown option (see bench/README.md)");
    }
    if (argc % 2 == 0 || opt->targets < 1 || opt->per_target < 1 || opt->width < 1 || opt->batch < 1 ||
        opt->conns < 1 || opt->conns > MAX_CONNS || opt->interval_ms < 1 || opt->to.port == 0)
        die("usage: bench_kinds_load --url URL --t0 SECONDS [--kind NAME] [--targets N] [--series N] "
            "[--width N] [--duration 24h] [--interval 15s] [--batch N] [--conns N] [--jitter SHARE] | --kinds");
}

int
main(int argc, char **argv)
{
    options opt = {.kind = &kinds[0],
                   .targets = 100,
                   .per_target = PER_TARGET,
                   .width = 24,
                   .conns = 2,
                   .batch = 10000,
                   .interval_ms = 15000,
                   .duration_ms = 86400000,
                   .jitter = 0.05};
    sender senders[MAX_CONNS] = {0};
    int64_t sent = 0;

    if (argc == 2 && strcmp(argv[1], "--kinds") == 0) {
        for (size_t i = 0; i < PS_ARRAY_LEN(kinds); i++)
            printf("%s\n", kinds[i].name);
        return 0;
    }
    parse_args(&opt, argc, argv);
    target *targets = calloc((size_t)opt.targets, sizeof *targets);
    if (targets == NULL)
        die("out of memory");
    for (int i = 0; i < opt.targets; i++)
        make_target(&opt, &targets[i], i);
    for (int c = 0; c < opt.conns; c++) {
        senders[c] = (sender){.opt = &opt, .targets = targets, .first = c, .step = opt.conns};
        if (pthread_create(&senders[c].thread, NULL, run_sender, &senders[c]) != 0)
            die("cannot start a thread");
    }
    for (int c = 0; c < opt.conns; c++) {
        pthread_join(senders[c].thread, NULL);
        sent += senders[c].sent;
    }
    for (int i = 0; i < opt.targets; i++) {
        for (int k = 0; k < opt.per_target; k++)
            ps_buf_done(&targets[i].items[k].labels);
        free(targets[i].items);
    }
    free(targets);
    printf("{\"samples\": %" PRId64 "}\n", sent);
    return 0;
}
