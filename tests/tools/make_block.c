/*
 * make_block.c - writes real blocks for SQL tests: reads samples as text, prints INSERT statements.
 *
 * Input, line by line:
 *   block <table> flush <tenant> <metric or bucket>
 *   block <table> merged|sealed <tenant> <metric>
 *   <metric>,<series>,<t_ms>,<value>        any number; in any order for flush, sorted otherwise
 *   end
 *
 * A value is a decimal number or x followed by the 16 hex digits of its bits; or, in all lines of a block,
 * a histogram as PromQL test scripts write it, {{schema:0 sum:5 count:4 buckets:[1 2 1]}}; an i before it
 * says that it is one of integers, {{stale}} is the staleness marker. The time may be followed by @ and
 * the start timestamp: <t_ms>@<start_ms>. Output goes to psql.
 */
#include "lib/block/block.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct points {
    blk_point *items;
    size_t n, cap;
    size_t n_histograms;
    ps_arena arena; /* of histograms */
} points;

_Noreturn static void
die(const char *what, const char *detail)
{
    fprintf(stderr, "make_block: %s: %s\n", what, detail);
    exit(1);
}

static const hst_hist *
parse_histogram(points *p, char *text)
{
    ps_err err = {0};
    const hst_hist *h = NULL;
    bool has_hint, integer = text[0] == 'i';
    char *begin = strstr(text, "{{"), *end = strstr(text, "}}");

    if (begin == NULL || end == NULL || end < begin + 2)
        die("not a histogram", text);
    begin += 2;
    hst_hist *copy = ps_arena_new(&p->arena, sizeof(*copy));
    if (copy == NULL)
        die("arena", "no memory");
    if (strncmp(begin, "stale", 5) == 0)
        *copy = (hst_hist){.sum = ps_double_of(MDL_STALE_NAN_BITS)};
    else if (hst_parse(&p->arena, (ps_str){begin, (size_t)(end - begin)}, &h, &has_hint, &err) !=
             PS_OK)
        die("hst_parse", err.text);
    else
        *copy = *h;
    copy->integer = integer;
    p->n_histograms++;
    return copy;
}

static void
points_add(points *p, char *line)
{
    blk_point x = {0};
    int used = 0, at = 0;

    if (sscanf(line, "%" SCNd32 ",%" SCNd64 ",%" SCNd64 "%n", &x.metric_id, &x.series_id, &x.t_ms,
               &used) < 3)
        die("not a sample", line);
    char *text = line + used;
    if (sscanf(text, "@%" SCNd64 "%n", &x.start_ms, &at) == 1)
        text += at;
    if (*text++ != ',')
        die("not a sample", line);
    if (strstr(text, "{{") != NULL)
        x.histogram = parse_histogram(p, text);
    else
        x.value = *text == 'x' ? ps_double_of(strtoull(text + 1, NULL, 16)) : strtod(text, NULL);
    if (p->n == p->cap) {
        p->cap = p->cap == 0 ? 1024 : p->cap * 2;
        p->items = realloc(p->items, p->cap * sizeof(*p->items));
        if (p->items == NULL)
            die("realloc", "no memory");
    }
    p->items[p->n++] = x;
}

static void
encode_flush(points *p, int32_t tenant, int32_t metric, ps_buf *out, blk_meta *meta)
{
    blk_point *scratch = malloc((p->n + 1) * sizeof(*scratch));
    blk_dup_stats stats = {0};
    ps_err err = {0};
    const bool histograms = p->n_histograms > 0;

    if (scratch == NULL)
        die("malloc", "no memory");
    p->n = (histograms ? blk_histograms_sort_unique : blk_points_sort_unique)(p->items, scratch,
                                                                              p->n, &stats);
    free(scratch);
    if ((histograms ? blk_encode_flush_histograms : blk_encode_flush)(&ps_malloc, tenant, metric,
                                                                      p->items, p->n, out, meta,
                                                                      &err) != PS_OK)
        die("blk_encode_flush", err.text);
}

typedef struct columns { /* one series' samples side by side */
    int64_t *t_ms, *start_ms;
    double *values;
    const hst_hist **histograms;
} columns;

static columns
columns_new(size_t n)
{
    columns c = {malloc((n + 1) * 8), malloc((n + 1) * 8), malloc((n + 1) * 8),
                 malloc((n + 1) * sizeof(*c.histograms))};

    if (c.t_ms == NULL || c.start_ms == NULL || c.values == NULL || c.histograms == NULL)
        die("malloc", "no memory");
    return c;
}

static void
encode_columns(const points *p, int32_t tenant, int32_t metric, int16_t level, ps_buf *out,
               blk_meta *meta)
{
    const bool histograms = p->n_histograms > 0;
    blk_writer_opts opts = {.tenant_id = tenant,
                            .metric_id = metric,
                            .level = level,
                            .kind = histograms ? BLK_KIND_HISTOGRAM : BLK_KIND_FLOAT};
    blk_writer *w = blk_writer_new(&ps_malloc, &opts);
    columns c = columns_new(p->n);
    ps_err err = {0};

    if (w == NULL)
        die("malloc", "no memory");
    for (size_t i = 0; i < p->n;) {
        int64_t series = p->items[i].series_id;
        size_t n = 0;

        for (; i < p->n && p->items[i].series_id == series; i++, n++) {
            c.t_ms[n] = p->items[i].t_ms;
            c.start_ms[n] = p->items[i].start_ms;
            if (histograms)
                c.histograms[n] = p->items[i].histogram;
            else
                c.values[n] = p->items[i].value;
        }
        if ((histograms
                 ? blk_writer_add_histograms(w, series, c.t_ms, c.start_ms, c.histograms, n, &err)
                 : blk_writer_add_started(w, series, c.t_ms, c.start_ms, c.values, n, &err)) !=
            PS_OK)
            die("blk_writer_add", err.text);
    }
    if (blk_writer_finish(w, out, meta, &err) != PS_OK)
        die("blk_writer_finish", err.text);
    blk_writer_free(w);
    free(c.t_ms);
    free(c.start_ms);
    free(c.values);
    free(c.histograms);
}

/* A timestamptz literal; the calendar by counting days of 400-year cycles from 1 March of year 0. */
static void
print_time(int64_t t_ms)
{
    int64_t day_ms = mdl_day_start_ms(t_ms);
    int64_t days = day_ms / MDL_DAY_MS + 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9;
    int64_t year = yoe + era * 400 + (month <= 2);
    int64_t ms = t_ms - day_ms;

    printf("'%04" PRId64 "-%02" PRId64 "-%02" PRId64 " %02" PRId64 ":%02" PRId64 ":%02" PRId64
           ".%03" PRId64 "+00%s'",
           year > 0 ? year : 1 - year, month, doy - (153 * mp + 2) / 5 + 1, ms / 3600000,
           ms / 60000 % 60, ms / 1000 % 60, ms % 1000, year > 0 ? "" : " BC");
}

static void
print_insert(const char *table, const blk_meta *m, ps_str data)
{
    printf("INSERT INTO _prom_data.%s (tenant_id, metric_id, dist_key, level, kind, format,"
           " series_lo, series_hi, t_min, t_max, n_series, n_samples, data) VALUES (%" PRId32
           ", %" PRId32 ", %" PRId64 ", %d, %d, %d, %" PRId64 ", %" PRId64 ", ",
           table, m->tenant_id, m->metric_id, m->dist_key, m->level, m->kind, m->format,
           m->series_lo, m->series_hi);
    print_time(m->t_min_ms);
    printf(", ");
    print_time(m->t_max_ms);
    printf(", %" PRId32 ", %" PRId32 ", '\\x", m->n_series, m->n_samples);
    for (size_t i = 0; i < data.len; i++)
        printf("%02x", (unsigned char)data.ptr[i]);
    printf("');\n");
}

static void
finish_block(const char *header, points *p)
{
    char table[64], form[16];
    int32_t tenant, metric;
    ps_buf out;
    blk_meta meta;

    if (sscanf(header, "block %63s %15s %" SCNd32 " %" SCNd32, table, form, &tenant, &metric) != 4)
        die("not a block line", header);
    if (p->n_histograms > 0 && p->n_histograms < p->n)
        die("floats and histograms in one block", header);
    ps_buf_init(&out, &ps_malloc);
    if (strcmp(form, "flush") == 0)
        encode_flush(p, tenant, metric, &out, &meta);
    else if (strcmp(form, "merged") == 0)
        encode_columns(p, tenant, metric, BLK_LEVEL_MERGED, &out, &meta);
    else if (strcmp(form, "sealed") == 0)
        encode_columns(p, tenant, metric, BLK_LEVEL_SEALED, &out, &meta);
    else
        die("not a form", form);
    print_insert(table, &meta, ps_buf_str(&out));
    ps_buf_done(&out);
    p->n = p->n_histograms = 0;
    ps_arena_reset(&p->arena);
}

int
main(void)
{
    static char line[1 << 20], header[512] = "";
    points p = {0};

    ps_arena_init(&p.arena, &ps_malloc, 0);

    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (strncmp(line, "block ", 6) == 0)
            memcpy(header, line, sizeof(header) - 1);
        else if (strncmp(line, "end", 3) == 0)
            finish_block(header, &p);
        else
            points_add(&p, line);
    }
    free(p.items);
    ps_arena_done(&p.arena);
    return ferror(stdin) || fflush(stdout) != 0;
}
