/*
 * make_block.c - writes real blocks for SQL tests: reads samples as text, prints INSERT statements.
 *
 * Input, line by line:
 *   block <table> flush <tenant> <metric or bucket>
 *   block <table> merged|sealed <tenant> <metric>
 *   <metric>,<series>,<t_ms>,<value>        any number; in any order for flush, sorted otherwise
 *   end
 *
 * A value is a decimal number or x followed by the 16 hex digits of its bits. Output goes to psql.
 */
#include "lib/block/block.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct points {
    blk_point *items;
    size_t n, cap;
} points;

_Noreturn static void
die(const char *what, const char *detail)
{
    fprintf(stderr, "make_block: %s: %s\n", what, detail);
    exit(1);
}

static void
points_add(points *p, const char *line)
{
    int32_t metric;
    int64_t series, t_ms;
    char text[64];

    if (sscanf(line, "%" SCNd32 ",%" SCNd64 ",%" SCNd64 ",%63s", &metric, &series, &t_ms, text) !=
        4)
        die("not a sample", line);
    if (p->n == p->cap) {
        p->cap = p->cap == 0 ? 1024 : p->cap * 2;
        p->items = realloc(p->items, p->cap * sizeof(*p->items));
        if (p->items == NULL)
            die("realloc", "no memory");
    }

    double value = text[0] == 'x' ? ps_double_of(strtoull(text + 1, NULL, 16)) : strtod(text, NULL);

    p->items[p->n++] =
        (blk_point){.metric_id = metric, .series_id = series, .t_ms = t_ms, .value = value};
}

static void
encode_flush(points *p, int32_t tenant, int32_t metric, ps_buf *out, blk_meta *meta)
{
    blk_point *scratch = malloc((p->n + 1) * sizeof(*scratch));
    blk_dup_stats stats = {0};
    ps_err err = {0};

    if (scratch == NULL)
        die("malloc", "no memory");
    p->n = blk_points_sort_unique(p->items, scratch, p->n, &stats);
    free(scratch);
    if (blk_encode_flush(&ps_malloc, tenant, metric, p->items, p->n, out, meta, &err) != PS_OK)
        die("blk_encode_flush", err.text);
}

static void
encode_columns(const points *p, int32_t tenant, int32_t metric, int16_t level, ps_buf *out,
               blk_meta *meta)
{
    blk_writer_opts opts = {.tenant_id = tenant, .metric_id = metric, .level = level};
    blk_writer *w = blk_writer_new(&ps_malloc, &opts);
    int64_t *t_ms = malloc((p->n + 1) * sizeof(*t_ms));
    double *values = malloc((p->n + 1) * sizeof(*values));
    ps_err err = {0};

    if (w == NULL || t_ms == NULL || values == NULL)
        die("malloc", "no memory");
    for (size_t i = 0; i < p->n;) {
        int64_t series = p->items[i].series_id;
        size_t n = 0;

        for (; i < p->n && p->items[i].series_id == series; i++, n++) {
            t_ms[n] = p->items[i].t_ms;
            values[n] = p->items[i].value;
        }
        if (blk_writer_add(w, series, t_ms, values, n, &err) != PS_OK)
            die("blk_writer_add", err.text);
    }
    if (blk_writer_finish(w, out, meta, &err) != PS_OK)
        die("blk_writer_finish", err.text);
    blk_writer_free(w);
    free(t_ms);
    free(values);
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
    p->n = 0;
}

int
main(void)
{
    char line[512], header[512] = "";
    points p = {0};

    while (fgets(line, sizeof(line), stdin) != NULL) {
        if (strncmp(line, "block ", 6) == 0)
            memcpy(header, line, sizeof(header));
        else if (strncmp(line, "end", 3) == 0)
            finish_block(header, &p);
        else
            points_add(&p, line);
    }
    free(p.items);
    return ferror(stdin) || fflush(stdout) != 0;
}
