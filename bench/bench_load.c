/*
 * bench_load.c - the standard load: a fleet of targets, scraped every interval, sent by remote write 1.0
 * over keep-alive connections as fast as the server takes it (or at --rate).
 *
 * Requests are built and compressed before the clock starts (they are kept in memory), so that the
 * generator costs next to nothing while it measures. Each connection has a thread and its own share of
 * the targets; a refused request (503) is sent again after its Retry-After, any other error counts.
 *
 * The manifest says per metric how many samples there are and what they add up to: what a reader must
 * find afterwards.
 */
#include <pthread.h>

#include "bench/fleet.h"

typedef struct options {
    load_server to;
    int targets, conns, batch;
    int64_t interval_ms, duration_ms, t0_ms;
    double rate;   /* samples a second over all connections; 0 = as fast as possible */
    double jitter; /* share of scrapes off the grid by up to 20 ms */
    const char *manifest;
} options;

typedef struct body {
    char *bytes;
    size_t len;
    int samples;
} body;

typedef struct sender {
    const options *opt;
    body *bodies;
    size_t n, cap;
    double *latency_ms;
    int64_t sent, retried, failed;
    pthread_t thread;
} sender;

/* ---- requests ------------------------------------------------------------------------------ */

static void
finish_body(sender *s, ps_buf *message, int samples)
{
    ps_buf packed;
    ps_err err;

    if (samples == 0)
        return;
    ps_buf_init(&packed, &ps_malloc);
    if (message->failed || wire_snappy_encode(ps_buf_str(message), &packed, &err) != PS_OK)
        die("cannot compress");
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->bodies = realloc(s->bodies, s->cap * sizeof(body));
        if (s->bodies == NULL)
            die("out of memory");
    }
    s->bodies[s->n++] = (body){packed.ptr, packed.len, samples};
    ps_buf_clear(message);
}

static int64_t
build(const options *opt, sender *senders)
{
    series **fleet = calloc((size_t)opt->targets, sizeof(*fleet));
    size_t *n_series = calloc((size_t)opt->targets, sizeof(*n_series));
    ps_buf *message = calloc((size_t)opt->conns, sizeof(*message));
    int *pending = calloc((size_t)opt->conns, sizeof(*pending));
    int64_t total = 0;
    uint64_t rng = 42;

    if (!fleet || !n_series || !message || !pending)
        die("out of memory");
    for (int t = 0; t < opt->targets; t++)
        fleet[t] = make_target(t, &n_series[t]);
    for (int c = 0; c < opt->conns; c++)
        ps_buf_init(&message[c], &ps_malloc);
    for (int64_t at = 0; at < opt->duration_ms; at += opt->interval_ms) {
        for (int t = 0; t < opt->targets; t++) {
            int c = t % opt->conns;
            int64_t t_ms = opt->t0_ms + at + t % 97;
            uint64_t r = next_random(&rng);

            if ((double)(r % 10000) < opt->jitter * 10000)
                t_ms += 1 + (int64_t)(r >> 40) % 20;
            for (size_t i = 0; i < n_series[t]; i++) {
                series *s = &fleet[t][i];
                double v = step_value(s);

                add_sample(&message[c], s, t_ms, v);
                sums[s->metric].samples++;
                sums[s->metric].sum += v;
                total++;
                if (++pending[c] == opt->batch) {
                    finish_body(&senders[c], &message[c], pending[c]);
                    pending[c] = 0;
                }
            }
        }
    }
    for (int c = 0; c < opt->conns; c++) {
        finish_body(&senders[c], &message[c], pending[c]);
        ps_buf_done(&message[c]);
    }
    for (int t = 0; t < opt->targets; t++) {
        for (size_t i = 0; i < n_series[t]; i++)
            ps_buf_done(&fleet[t][i].labels);
        free(fleet[t]);
    }
    free(fleet);
    free(n_series);
    free(message);
    free(pending);
    return total;
}

/* ---- sending ------------------------------------------------------------------------------- */

static void *
run_sender(void *arg)
{
    sender *s = arg;
    int fd = load_dial(&s->opt->to);
    double started = now_s();
    double sent = 0;

    for (size_t i = 0; i < s->n; i++) {
        double at = now_s();

        if (s->opt->rate > 0) {
            double due = started + sent * s->opt->conns / s->opt->rate;

            if (due > at)
                usleep((useconds_t)((due - at) * 1e6));
            at = now_s();
        }
        for (int attempt = 0;; attempt++) {
            int status = load_send(fd, &s->opt->to, (ps_str){s->bodies[i].bytes, s->bodies[i].len})
                             ? load_answer(fd)
                             : -1;

            if (status == 204 || status == 200) {
                s->sent += s->bodies[i].samples;
                break;
            }
            if ((status != -1 && status != 503) || attempt == 300) {
                s->failed += s->bodies[i].samples;
                break;
            }
            s->retried++;
            if (status == -1) {
                if (fd >= 0)
                    close(fd);
                usleep(100000);
                fd = load_dial(&s->opt->to);
            } else {
                usleep(200000);
            }
        }
        sent += s->bodies[i].samples;
        s->latency_ms[i] = (now_s() - at) * 1e3;
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void
report(const options *opt, sender *senders, double seconds)
{
    int64_t sent = 0, retried = 0, failed = 0;
    size_t n = 0, k = 0, bytes = 0;
    double *all;

    for (int c = 0; c < opt->conns; c++)
        n += senders[c].n;
    all = calloc(n ? n : 1, sizeof(double));
    if (all == NULL)
        die("out of memory");
    for (int c = 0; c < opt->conns; c++) {
        sent += senders[c].sent;
        retried += senders[c].retried;
        failed += senders[c].failed;
        for (size_t i = 0; i < senders[c].n; i++) {
            bytes += senders[c].bodies[i].len;
            all[k++] = senders[c].latency_ms[i];
        }
    }
    qsort(all, n, sizeof(double), compare_doubles);
    printf("{\"samples\": %" PRId64 ", \"seconds\": %.3f, \"samples_per_second\": %.0f, "
           "\"requests\": %zu, \"bytes_per_sample\": %.2f, \"retried\": %" PRId64
           ", \"failed\": %" PRId64 ", \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"max_ms\": %.2f}\n",
           sent, seconds, (double)sent / seconds, n, sent ? (double)bytes / (double)sent : 0.0,
           retried, failed, n ? all[n / 2] : 0, n ? all[n * 99 / 100] : 0, n ? all[n - 1] : 0);
    free(all);
    if (failed != 0)
        exit(1);
}

static void
write_manifest(const options *opt)
{
    FILE *f = fopen(opt->manifest, "w");

    if (f == NULL)
        die("cannot write the manifest");
    for (int i = 0; i < n_sums; i++)
        fprintf(f, "%s %" PRId64 " %.17Lg\n", sums[i].name, sums[i].samples, sums[i].sum);
    fclose(f);
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
        else if (strcmp(k, "--t0") == 0)
            opt->t0_ms = strtoll(v, NULL, 10) * 1000;
        else if (strcmp(k, "--rate") == 0)
            opt->rate = strtod(v, NULL);
        else if (strcmp(k, "--jitter") == 0)
            opt->jitter = strtod(v, NULL);
        else if (strcmp(k, "--manifest") == 0)
            opt->manifest = v;
        else
            die("unknown option (see bench/README.md)");
    }
    if (argc % 2 == 0 || opt->targets < 1 || opt->conns < 1 || opt->conns > 64 || opt->batch < 1 ||
        opt->interval_ms < 1 || opt->to.port == 0)
        die("usage: bench_load --url URL [--targets N] [--duration 2h] [--interval 15s] [--batch N] "
            "[--conns N] [--t0 SECONDS] [--rate N] [--jitter SHARE] [--manifest FILE]");
}

int
main(int argc, char **argv)
{
    options opt = {.targets = 100,
                   .conns = 4,
                   .batch = 2000,
                   .interval_ms = 15000,
                   .duration_ms = 7200000,
                   .jitter = 0};
    sender senders[64] = {0};
    double started;
    int64_t total;

    opt.t0_ms = ((int64_t)time(NULL) / 3600 * 3600 - 3 * 3600) * 1000;
    parse_args(&opt, argc, argv);
    total = build(&opt, senders);
    if (opt.manifest)
        write_manifest(&opt);
    fprintf(stderr, "bench_load: %" PRId64 " samples of %d targets built, sending\n", total,
            opt.targets);
    for (int c = 0; c < opt.conns; c++) {
        senders[c].opt = &opt;
        senders[c].latency_ms = calloc(senders[c].n ? senders[c].n : 1, sizeof(double));
        if (senders[c].latency_ms == NULL)
            die("out of memory");
    }
    started = now_s();
    for (int c = 0; c < opt.conns; c++) {
        if (pthread_create(&senders[c].thread, NULL, run_sender, &senders[c]) != 0)
            die("cannot start a thread");
    }
    for (int c = 0; c < opt.conns; c++)
        pthread_join(senders[c].thread, NULL);
    report(&opt, senders, now_s() - started);
    for (int c = 0; c < opt.conns; c++) {
        for (size_t i = 0; i < senders[c].n; i++)
            free(senders[c].bodies[i].bytes);
        free(senders[c].bodies);
        free(senders[c].latency_ms);
    }
    return 0;
}
