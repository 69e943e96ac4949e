/*
 * bench_wire.c - what it costs to read a remote write request, in nanoseconds per sample.
 *
 * The request is as Prometheus sends it: one sample a series, eight labels of about 170 bytes in all,
 * 2000 and 10000 series. Measured apart: snappy; finding series and samples (which is all that a
 * known series needs, and what the connector does for each request); the same with the key hashed;
 * the same with all labels taken out and made canonical (what a new series costs here).
 *
 * CPU time of this thread; the best of several runs, since others use the machine too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/wire/wire.h"

enum { LABELS = 8, ROUNDS = 9 };

static double
cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void
die(const char *what)
{
    fprintf(stderr, "bench_wire: %s\n", what);
    exit(1);
}

static size_t
add_series(ps_buf *message, size_t i, int64_t t_ms)
{
    static const char *const modes[] = {"idle", "user", "system", "iowait", "irq", "steal"};
    char metric[64];
    char instance[64];
    char pod[64];
    char cpu[16];
    snprintf(metric, sizeof metric, "node_cpu_seconds_%03zu_total", i / 60 % 500);
    snprintf(instance, sizeof instance, "10.12.%zu.%zu:9100", i / 500 % 250, i % 250);
    snprintf(pod, sizeof pod, "node-exporter-%05zu", i * 2654435761u % 100000);
    snprintf(cpu, sizeof cpu, "%zu", i % 64);
    const mdl_label labels[LABELS] = {
        {PS_STR("__name__"), ps_str_c(metric)},
        {PS_STR("cluster"), PS_STR("production-eu-1")},
        {PS_STR("cpu"), ps_str_c(cpu)},
        {PS_STR("instance"), ps_str_c(instance)},
        {PS_STR("job"), PS_STR("node-exporter")},
        {PS_STR("mode"), ps_str_c(modes[i % PS_ARRAY_LEN(modes)])},
        {PS_STR("namespace"), PS_STR("monitoring")},
        {PS_STR("pod"), ps_str_c(pod)},
    };
    const wire_sample sample = {t_ms, (double)(i * 7919 % 1000003) / 100, 0};
    size_t bytes = 0;
    for (size_t l = 0; l < LABELS; l++)
        bytes += labels[l].name.len + labels[l].value.len;
    wire_write_series(message, (mdl_labels){labels, LABELS}, &sample, 1, NULL, 0);
    return bytes;
}

typedef enum depth { SAMPLES, HASHED, LABELS_TOO } depth;

/* Reads the whole request once; the sum keeps the compiler from leaving the work out. */
static uint64_t
read_request(ps_str message, depth how, size_t *ret_samples)
{
    wire_write_reader reader;
    wire_item item;
    wire_series series;
    wire_metadata metadata;
    wire_sample samples[4];
    mdl_label labels[LABELS];
    uint64_t sum = 0;
    size_t n = 0;
    wire_write_reader_init(&reader, message);
    for (;;) {
        if (wire_write_next(&reader, &item, &series, &metadata, NULL) != PS_OK)
            die("the request does not parse");
        if (item == WIRE_END)
            break;
        if (series.n_samples > PS_ARRAY_LEN(samples) || series.n_labels > LABELS)
            die("an unexpected series");
        wire_series_samples(&series, samples);
        for (uint32_t i = 0; i < series.n_samples; i++)
            sum += (uint64_t)samples[i].t_ms + ps_bits_of(samples[i].value);
        n += series.n_samples;
        if (how >= HASHED)
            sum += ps_hash64(series.label_bytes, 12345);
        if (how == LABELS_TOO) {
            size_t kept;
            wire_series_labels(&series, labels);
            if (mdl_labels_canonical(labels, series.n_labels, NULL, &kept, NULL) != PS_OK)
                die("labels are not canonical");
            sum += kept;
        }
    }
    *ret_samples = n;
    return sum;
}

/* Nanoseconds of CPU per sample, best of ROUNDS; how < 0 measures snappy. */
static double
measure(ps_str packed, ps_str message, ps_buf *scratch, int how, size_t samples)
{
    size_t repeat = 2000000 / samples + 1;
    double best = 1e9;
    uint64_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double start = cpu_seconds();
        for (size_t i = 0; i < repeat; i++) {
            size_t n = samples;
            if (how >= 0)
                sum += read_request(message, (depth)how, &n);
            else if (wire_snappy_decode(packed, 1 << 28, scratch, NULL) != PS_OK)
                die("the request does not decompress");
            if (n != samples)
                die("samples are missing");
        }
        double ns = (cpu_seconds() - start) * 1e9 / (double)(repeat * samples);
        best = ns < best ? ns : best;
    }
    if (sum == 42) /* never, but the compiler cannot know */
        printf("\n");
    return best;
}

int
main(void)
{
    static const size_t sizes[] = {2000, 10000};
    printf("%8s %10s %10s %8s | ns per sample: %7s %7s %7s %7s\n", "samples", "bytes", "packed",
           "labels", "snappy", "parse", "+hash", "+labels");
    for (size_t s = 0; s < PS_ARRAY_LEN(sizes); s++) {
        ps_buf message;
        ps_buf packed;
        ps_buf scratch;
        size_t label_bytes = 0;
        ps_buf_init(&message, &ps_malloc);
        ps_buf_init(&packed, &ps_malloc);
        ps_buf_init(&scratch, &ps_malloc);
        for (size_t i = 0; i < sizes[s]; i++)
            label_bytes += add_series(&message, i, INT64_C(1700000000000) + (int64_t)(i % 15000));
        if (message.failed || wire_snappy_encode(ps_buf_str(&message), &packed, NULL) != PS_OK)
            die("no memory");
        ps_str in = ps_buf_str(&packed);
        ps_str plain = ps_buf_str(&message);
        printf("%8zu %10zu %10zu %8zu | %14s", sizes[s], plain.len, in.len, label_bytes / sizes[s],
               "");
        for (int how = -1; how <= LABELS_TOO; how++)
            printf(" %7.1f", measure(in, plain, &scratch, how, sizes[s]));
        printf("\n");
        ps_buf_done(&message);
        ps_buf_done(&packed);
        ps_buf_done(&scratch);
    }
    return 0;
}
