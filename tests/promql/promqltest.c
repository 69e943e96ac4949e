/*
 * promqltest.c - the program: runs test scripts, or asks one query over what a script loads.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/promql/compare.h"
#include "tests/promql/pool.h"
#include "tests/promql/run.h"

static const char usage[] =
    "promqltest [--no-rewrites] [-v] [--only LINE] [--engine-threads N] FILE...\n"
    "promqltest --print QUERY [--at T | --from T --to T --step T] [--engine-threads N] FILE...\n"
    "promqltest --export FILE...\n"
    "\n"
    "Runs test scripts: a line for each case that fails, \"N passed, N failed\" at the end.\n"
    "With --print: loads what the scripts load, evaluates QUERY and prints its result as JSON. Times\n"
    "are durations since 1970 (5m, 90s); --at 0 if nothing is said.\n";

typedef struct program {
    run_options run;
    const char *query;
    bool export;
    int64_t at_ms, from_ms, to_ms, step_ms;
    size_t threads;
    int first_file;
} program;

static bool
read_file(const char *name, ps_buf *out)
{
    char chunk[65536];
    FILE *f = fopen(name, "rb");
    if (f == NULL)
        return false;
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        ps_buf_add(out, chunk, n);
    bool ok = !ferror(f) && !out->failed;
    fclose(f);
    return ok;
}

static bool
parse_time(const char *s, int64_t *ret)
{
    bool negative = s[0] == '-';
    if (strcmp(s, "0") == 0) {
        *ret = 0;
        return true;
    }
    if (ps_parse_duration(ps_str_c(s + negative), ret) != PS_OK)
        return false;
    if (negative)
        *ret = -*ret;
    return true;
}

static bool
parse_count(const char *s, size_t *ret)
{
    int64_t n;
    if (ps_parse_i64(ps_str_c(s), &n) != PS_OK || n < 1 || n > 1000000)
        return false;
    *ret = (size_t)n;
    return true;
}

static bool
parse_options(program *p, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--no-rewrites") == 0) {
            p->run.rewrites = false;
            continue;
        }
        if (strcmp(option, "--export") == 0) {
            p->export = true;
            continue;
        }
        if (strcmp(option, "-v") == 0) {
            p->run.verbose = true;
            continue;
        }
        if (++i == argc)
            return false;
        const char *value = argv[i];
        bool ok = strcmp(option, "--only") == 0             ? parse_count(value, &p->run.only)
                  : strcmp(option, "--engine-threads") == 0 ? parse_count(value, &p->threads)
                  : strcmp(option, "--print") == 0          ? (p->query = value) != NULL
                  : strcmp(option, "--at") == 0             ? parse_time(value, &p->at_ms)
                  : strcmp(option, "--from") == 0           ? parse_time(value, &p->from_ms)
                  : strcmp(option, "--to") == 0             ? parse_time(value, &p->to_ms)
                  : strcmp(option, "--step") == 0           ? parse_time(value, &p->step_ms)
                                                            : false;
        if (!ok)
            return false;
    }
    p->first_file = i;
    return i < argc;
}

static int
run_files(const program *p, int argc, char **argv)
{
    run_counts counts = {0};
    memory_store store;
    memory_init(&store);
    for (int i = p->first_file; i < argc; i++) {
        ps_buf text;
        ps_buf_init(&text, &ps_malloc);
        if (read_file(argv[i], &text)) {
            run_script(argv[i], ps_buf_str(&text), &p->run, &store, &counts);
        } else {
            printf("FAIL %s: cannot be read\n", argv[i]);
            counts.failed++;
        }
        ps_buf_done(&text);
        fflush(stdout);
    }
    memory_done(&store);
    if (counts.passed + counts.failed == 0) {
        printf("FAIL there was nothing to run\n");
        counts.failed++;
    }
    printf("%zu passed, %zu failed\n", counts.passed, counts.failed);
    return counts.failed == 0 ? 0 : 1;
}

static int
export_files(const program *p, int argc, char **argv)
{
    int code = 0;
    for (int i = p->first_file; i < argc; i++) {
        ps_buf text;
        ps_err err = {.text = "cannot be read"};
        ps_buf_init(&text, &ps_malloc);
        if (!read_file(argv[i], &text) || run_export(ps_buf_str(&text), stdout, &err) != PS_OK) {
            fprintf(stderr, "%s: %s\n", argv[i], err.text);
            code = 2;
        }
        ps_buf_done(&text);
    }
    return code;
}

static int
print_query(const program *p, int argc, char **argv)
{
    ps_buf text;
    ps_err err = {.text = "cannot be read"};
    memory_store store;
    run_query r;
    int code = 0;
    memory_init(&store);
    ps_buf_init(&text, &ps_malloc);
    for (int i = p->first_file; i < argc; i++) {
        ps_buf_clear(&text);
        if (!read_file(argv[i], &text) || run_loads(ps_buf_str(&text), &store, &err) != PS_OK) {
            fprintf(stderr, "%s: %s\n", argv[i], err.text);
            code = 2;
        }
    }
    ps_buf_clear(&text);
    bool range = p->step_ms > 0;
    ps_status status = run_query_start(&r, &store, p->run.executor, ps_str_c(p->query),
                                       range ? p->from_ms : p->at_ms, range ? p->to_ms : p->at_ms,
                                       range ? p->step_ms : 0);
    if (status == PS_OK) {
        print_result(&text, r.result);
    } else {
        ps_buf_addf(&text, "{\"status\":\"%s\",\"error\":", ps_status_name(status));
        print_json_text(&text, run_query_error(&r));
        ps_buf_add_char(&text, '}');
        code = 1;
    }
    printf("%.*s\n", (int)text.len, text.ptr);
    run_query_done(&r);
    ps_buf_done(&text);
    memory_done(&store);
    return code;
}

int
main(int argc, char **argv)
{
    program p = {.run = {.rewrites = true, .executor = &ev_serial, .out = stdout}};
    if (!parse_options(&p, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    pool *threads = NULL;
    ev_executor executor;
    if (p.threads > 0) {
        threads = pool_new(p.threads);
        if (threads == NULL) {
            fprintf(stderr, "promqltest: no %zu threads\n", p.threads);
            return 2;
        }
        executor = pool_executor(threads);
        p.run.executor = &executor;
    }
    int code = p.query != NULL ? print_query(&p, argc, argv)
               : p.export      ? export_files(&p, argc, argv)
                               : run_files(&p, argc, argv);
    pool_free(threads);
    return code;
}
