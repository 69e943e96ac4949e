/*
 * bench_live_load.c - the standard load as time goes by: each target is scraped every --interval, at an
 * offset of its own, and sent at once with the time of now, for --duration. What a store lives on for
 * days, at any rate: the rate is targets x 500 / interval.
 *
 * Messages are made once, with room for time and value of each series, and patched for each scrape;
 * then the generator costs little more than compressing them. Every connection has a thread and its
 * share of the targets, of which it sends --batch samples a request. One that falls behind sends as
 * fast as it can, with the times at which the scrapes were due.
 *
 * Each --report seconds, and at the end for the whole run, a line of JSON: samples, latencies, how
 * far behind.
 */
#include <pthread.h>

#include "bench/fleet.h"

typedef struct options {
    load_server to;
    int targets, conns, batch;
    int64_t interval_ms, duration_ms, report_ms;
    double jitter;
} options;

enum { BUCKETS = 4000, TIME_BYTES = 6 }; /* times of 42 bits: from the year 2004 to 2109 */

/* Latencies, a bucket of 0.1 ms up to 100 ms and of 10 ms above. */
typedef struct figures {
    int64_t samples, requests, retried, failed, bytes;
    double max_ms, behind_ms;
    int64_t latency[BUCKETS];
} figures;

typedef struct scrape { /* the series of the targets that one request brings */
    series *items;
    size_t n, *slots; /* where time and value of a series are in message */
    size_t *target_of;
    ps_buf message;
    int64_t offset_ms;
} scrape;

typedef struct sender {
    const options *opt;
    scrape *scrapes;
    size_t n_scrapes;
    pthread_t thread;
    pthread_mutex_t mu; /* guards now */
    figures now, all;
    uint64_t rng;
    int64_t started_ms; /* wall clock */
} sender;

static int64_t
wall_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- figures ------------------------------------------------------------------------------- */

static void
add_latency(figures *f, double ms)
{
    size_t i = ms < 100 ? (size_t)(ms * 10) : 1000 + (size_t)((ms - 100) / 10);

    f->latency[i < BUCKETS ? i : BUCKETS - 1]++;
    f->max_ms = ms > f->max_ms ? ms : f->max_ms;
}

static void
add_figures(figures *to, const figures *f)
{
    to->samples += f->samples;
    to->requests += f->requests;
    to->retried += f->retried;
    to->failed += f->failed;
    to->bytes += f->bytes;
    to->max_ms = f->max_ms > to->max_ms ? f->max_ms : to->max_ms;
    to->behind_ms = f->behind_ms > to->behind_ms ? f->behind_ms : to->behind_ms;
    for (size_t i = 0; i < BUCKETS; i++)
        to->latency[i] += f->latency[i];
}

static double
quantile(const figures *f, double q)
{
    const int64_t rank = (int64_t)((double)f->requests * q);
    int64_t seen = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        seen += f->latency[i];
        if (seen > rank)
            return i < 1000 ? (double)(i + 1) / 10 : 100 + (double)(i - 999) * 10;
    }
    return f->max_ms;
}

static void
print_figures(const char *what, const figures *f, double seconds)
{
    printf("{\"%s\": true, \"samples\": %" PRId64
           ", \"seconds\": %.3f, \"samples_per_second\": %.0f, "
           "\"requests\": %" PRId64 ", \"bytes_per_sample\": %.2f, \"retried\": %" PRId64
           ", \"failed\": %" PRId64 ", \"p50_ms\": %.1f, \"p99_ms\": %.1f, \"max_ms\": %.1f, "
           "\"behind_ms\": %.0f}\n",
           what, f->samples, seconds, (double)f->samples / seconds, f->requests,
           f->samples ? (double)f->bytes / (double)f->samples : 0.0, f->retried, f->failed,
           quantile(f, 0.5), quantile(f, 0.99), f->max_ms, f->behind_ms);
    fflush(stdout);
}

/* ---- messages ------------------------------------------------------------------------------ */

/* The message of some targets; a time of TIME_BYTES stands in it from the start. */
static void
make_scrape(scrape *sc, const int *targets, size_t n_targets, int64_t t_ms)
{
    sc->items = calloc(n_targets * SERIES_MAX_PER_TARGET, sizeof(*sc->items));
    sc->slots = calloc(n_targets * SERIES_MAX_PER_TARGET, sizeof(*sc->slots));
    sc->target_of = calloc(n_targets * SERIES_MAX_PER_TARGET, sizeof(*sc->target_of));
    if (sc->items == NULL || sc->slots == NULL || sc->target_of == NULL)
        die("out of memory");
    ps_buf_init(&sc->message, &ps_malloc);
    for (size_t k = 0; k < n_targets; k++) {
        size_t n;
        series *s = make_target(targets[k], &n);

        for (size_t i = 0; i < n; i++, sc->n++) {
            sc->items[sc->n] = s[i];
            sc->target_of[sc->n] = k;
            add_sample(&sc->message, &s[i], t_ms, 0);
            sc->slots[sc->n] = sc->message.len - TIME_BYTES - 1 - 8;
            ps_buf_done(&s[i].labels);
        }
        free(s);
    }
    if (sc->message.failed)
        die("out of memory");
}

/* Time and value of every series. Some scrapes are a little late. */
static void
patch(sender *s, scrape *sc, int64_t due_ms)
{
    /* never as late as the next one: equal times of a series are one sample */
    const int64_t late = s->opt->interval_ms > 20 ? 20 : s->opt->interval_ms - 1;
    size_t target = SIZE_MAX;
    int64_t t_ms = due_ms;

    for (size_t i = 0; i < sc->n; i++) {
        char *p = sc->message.ptr + sc->slots[i];

        if (sc->target_of[i] != target) {
            const uint64_t r = next_random(&s->rng);

            target = sc->target_of[i];
            t_ms = due_ms;
            if (late > 0 && (double)(r % 10000) < s->opt->jitter * 10000)
                t_ms += 1 + (int64_t)(r >> 40) % late;
        }
        ps_put_u64le(p, ps_bits_of(step_value(&sc->items[i])));
        put_varint(p + 8 + 1, (uint64_t)t_ms);
    }
}

static void
make_senders(const options *opt, sender *senders)
{
    const int per = opt->batch / 500 > 0 ? opt->batch / 500 : 1;
    const int n_scrapes = (opt->targets + per - 1) / per;
    int *targets = calloc((size_t)per, sizeof(*targets));
    int at = 0;

    if (targets == NULL)
        die("out of memory");
    for (int c = 0; c < opt->conns; c++) {
        senders[c].opt = opt;
        senders[c].rng = 42 + (uint64_t)c;
        pthread_mutex_init(&senders[c].mu, NULL);
        senders[c].scrapes = calloc((size_t)n_scrapes, sizeof(scrape));
        if (senders[c].scrapes == NULL)
            die("out of memory");
    }
    for (int k = 0; k < n_scrapes; k++) {
        sender *s = &senders[k % opt->conns];
        scrape *sc = &s->scrapes[s->n_scrapes++];
        size_t n = 0;

        while (n < (size_t)per && at < opt->targets)
            targets[n++] = at++;
        make_scrape(sc, targets, n, wall_ms());
        sc->offset_ms = opt->interval_ms * k / n_scrapes;
    }
    free(targets);
}

/* ---- sending ------------------------------------------------------------------------------- */

/* Until the request is stored, or refused for good. */
static void
deliver(const sender *s, int *fd, ps_str body, int64_t samples, figures *f)
{
    for (int attempt = 0;; attempt++) {
        int status = load_send(*fd, &s->opt->to, body) ? load_answer(*fd) : -1;

        if (status == 204 || status == 200) {
            f->samples += samples;
            return;
        }
        if ((status != -1 && status != 503) || attempt == 300) {
            f->failed += samples;
            return;
        }
        f->retried++;
        if (status == -1) {
            if (*fd >= 0)
                close(*fd);
            usleep(100000);
            *fd = load_dial(&s->opt->to);
        } else {
            usleep(200000);
        }
    }
}

static void *
run_sender(void *arg)
{
    sender *s = arg;
    int fd = load_dial(&s->opt->to);
    ps_buf packed;
    ps_err err;

    ps_buf_init(&packed, &ps_malloc);
    for (int64_t at = 0; at < s->opt->duration_ms; at += s->opt->interval_ms) {
        for (size_t k = 0; k < s->n_scrapes; k++) {
            scrape *sc = &s->scrapes[k];
            const int64_t due = s->started_ms + at + sc->offset_ms, ahead = due - wall_ms();
            figures one = {.requests = 1};

            if (ahead > 0)
                usleep((useconds_t)ahead * 1000);
            one.behind_ms = ahead < 0 ? (double)-ahead : 0;
            patch(s, sc, due);
            ps_buf_clear(&packed);
            if (wire_snappy_encode(ps_buf_str(&sc->message), &packed, &err) != PS_OK)
                die("cannot compress");
            const double begun = now_s();
            deliver(s, &fd, ps_buf_str(&packed), (int64_t)sc->n, &one);
            one.bytes = (int64_t)packed.len;
            add_latency(&one, (now_s() - begun) * 1e3);
            one.max_ms = (now_s() - begun) * 1e3;
            pthread_mutex_lock(&s->mu);
            add_figures(&s->now, &one);
            pthread_mutex_unlock(&s->mu);
        }
    }
    ps_buf_done(&packed);
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void
take_figures(sender *s, figures *ret)
{
    pthread_mutex_lock(&s->mu);
    add_figures(ret, &s->now);
    add_figures(&s->all, &s->now);
    s->now = (figures){0};
    pthread_mutex_unlock(&s->mu);
}

static void
report_until_the_end(const options *opt, sender *senders)
{
    const double started = now_s();
    double last = started;
    figures *f = calloc(1, sizeof(*f));

    if (f == NULL)
        die("out of memory");
    for (int64_t at = opt->report_ms; at < opt->duration_ms; at += opt->report_ms) {
        double wait = started + (double)at / 1e3 - now_s();

        if (wait > 0)
            usleep((useconds_t)(wait * 1e6));
        *f = (figures){0};
        for (int c = 0; c < opt->conns; c++)
            take_figures(&senders[c], f);
        print_figures("interval", f, now_s() - last);
        last = now_s();
    }
    *f = (figures){0};
    for (int c = 0; c < opt->conns; c++) {
        pthread_join(senders[c].thread, NULL);
        take_figures(&senders[c], f);
    }
    print_figures("interval", f, now_s() - last);
    *f = (figures){0};
    for (int c = 0; c < opt->conns; c++)
        add_figures(f, &senders[c].all);
    print_figures("total", f, now_s() - started);
    const bool failed = f->failed != 0;
    free(f);
    if (failed)
        exit(1);
}

static void
parse_args(options *opt, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *k = argv[i], *v = argv[i + 1];

        if (strcmp(k, "--url") == 0)
            load_parse_url(&opt->to, v);
        else if (strcmp(k, "--targets") == 0)
            opt->targets = atoi(v);
        else if (strcmp(k, "--conns") == 0)
            opt->conns = atoi(v);
        else if (strcmp(k, "--batch") == 0)
            opt->batch = atoi(v);
        else if (strcmp(k, "--interval") == 0)
            opt->interval_ms = duration_arg(v);
        else if (strcmp(k, "--duration") == 0)
            opt->duration_ms = duration_arg(v);
        else if (strcmp(k, "--report") == 0)
            opt->report_ms = duration_arg(v);
        else if (strcmp(k, "--jitter") == 0)
            opt->jitter = strtod(v, NULL);
        else
            die("unknown option (see bench/README.md)");
    }
    if (argc % 2 == 0 || opt->targets < 1 || opt->conns < 1 || opt->conns > 64 || opt->batch < 1 ||
        opt->interval_ms < 1 || opt->report_ms < 1 || opt->to.port == 0)
        die("usage: bench_live_load --url URL [--targets N] [--interval 200ms] [--duration 1m] [--batch N] "
            "[--conns N] [--report 1m] [--jitter SHARE]");
}

int
main(int argc, char **argv)
{
    options opt = {.targets = 200,
                   .conns = 4,
                   .batch = 2000,
                   .interval_ms = 200,
                   .duration_ms = 60000,
                   .report_ms = 60000,
                   .jitter = 0.05};
    static sender senders[64];

    parse_args(&opt, argc, argv);
    make_senders(&opt, senders);
    const int64_t started_ms = wall_ms();
    for (int c = 0; c < opt.conns; c++) {
        senders[c].started_ms = started_ms;
        if (pthread_create(&senders[c].thread, NULL, run_sender, &senders[c]) != 0)
            die("cannot start a thread");
    }
    report_until_the_end(&opt, senders);
    for (int c = 0; c < opt.conns; c++) {
        for (size_t k = 0; k < senders[c].n_scrapes; k++) {
            scrape *sc = &senders[c].scrapes[k];
            free(sc->items);
            free(sc->slots);
            free(sc->target_of);
            ps_buf_done(&sc->message);
        }
        free(senders[c].scrapes);
    }
    return 0;
}
