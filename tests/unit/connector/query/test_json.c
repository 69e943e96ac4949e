/*
 * test_json.c - results and errors, byte for byte.
 */
#include "tests/unit/support.h"

#include <math.h>

#include "connector/query/internal.h"

static char *
text_of(ps_buf *out)
{
    ps_buf_add_char(out, 0);
    assert_false(out->failed);
    return out->ptr;
}

static void
expect(const query_rendering *w, const char *json)
{
    ps_buf out;

    ps_buf_init(&out, &ps_malloc);
    query_render(&out, w);
    assert_string_equal(text_of(&out), json);
    ps_buf_done(&out);
}

static const mdl_label pairs[] = {{{"__name__", 8}, {"up", 2}}, {{"a\"b", 3}, {"<x>\n\x01", 5}}};

static void
test_vector(void **state)
{
    const int64_t t[] = {1435781451781, 0};
    const double v[] = {-0.0, INFINITY};
    const ev_result_series series[] = {{.labels = {pairs, 2}, .n = 1, .t_ms = t, .v = v},
                                       {.n = 1, .t_ms = t + 1, .v = v + 1}};
    const ev_result r = {.type = PQL_VECTOR, .n = 2, .series = series};

    (void)state;
    expect(&(query_rendering){.result = &r},
           "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":["
           "{\"metric\":{\"__name__\":\"up\",\"a\\\"b\":\"<x>\\n\\u0001\"},"
           "\"value\":[1435781451.781,\"-0\"]},"
           "{\"metric\":{},\"value\":[0,\"+Inf\"]}]}}");
    expect(&(query_rendering){.result = &r, .limit = 1, .warning = "cut"},
           "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":["
           "{\"metric\":{\"__name__\":\"up\",\"a\\\"b\":\"<x>\\n\\u0001\"},"
           "\"value\":[1435781451.781,\"-0\"]}]},\"warnings\":[\"cut\"]}");
}

static void
test_matrix_of_both_kinds(void **state)
{
    const double counts[] = {3, 0, 12};
    const hst_span spans[] = {{0, 3}};
    const hst_hist h = {.count = 18,
                        .sum = 18.5,
                        .zero_threshold = 0.25,
                        .zero_count = 3,
                        .positive = {spans, 1, 3, counts}};
    const hst_hist none = {.count = 0, .sum = 0};
    const int64_t t[] = {-1, 60, 1060};
    const double v[] = {NAN, 0, 0};
    const hst_hist *hists[] = {NULL, &h, &none};
    const ev_result_series series = {.n = 3, .t_ms = t, .v = v, .h = hists};
    const ev_result r = {.type = PQL_MATRIX, .n = 1, .series = &series};

    (void)state;
    expect(&(query_rendering){.result = &r},
           "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":["
           "{\"metric\":{},\"values\":[[-0.001,\"NaN\"]],\"histograms\":["
           "[0.060,{\"count\":\"18\",\"sum\":\"18.5\",\"buckets\":["
           "[3,\"-0.25\",\"0.25\",\"3\"],[0,\"0.5\",\"1\",\"3\"],[0,\"2\",\"4\",\"12\"]]}],"
           "[1.060,{\"count\":\"0\",\"sum\":\"0\"}]]}]}}");
}

static void
test_scalar_string_empty(void **state)
{
    const int64_t t = 10500;
    const double v = 1e21;
    const ev_result_series one = {.n = 1, .t_ms = &t, .v = &v};
    const ev_result scalar = {.type = PQL_SCALAR, .n = 1, .series = &one};
    const ev_result text = {.type = PQL_STRING, .text = PS_STR("a & <b>")};
    const ev_result none = {.type = PQL_VECTOR};

    (void)state;
    expect(&(query_rendering){.result = &scalar},
           "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":"
           "[10.500,\"1000000000000000000000\"]}}");
    expect(&(query_rendering){.result = &text, .time_ms = 2000},
           "{\"status\":\"success\",\"data\":{\"resultType\":\"string\",\"result\":"
           "[2,\"a \\u0026 \\u003cb\\u003e\"]}}");
    expect(&(query_rendering){.result = &none},
           "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}");
}

static void
test_notes_are_few(void **state)
{
    ps_str notes[12];
    ps_buf out;

    (void)state;
    for (size_t i = 0; i < 12; i++)
        notes[i] = PS_STR("PromQL info: x (1:1)");
    const ev_result r = {.type = PQL_VECTOR, .infos = notes, .n_infos = 12};
    ps_buf_init(&out, &ps_malloc);
    query_render(&out, &(query_rendering){.result = &r});
    const char *json = text_of(&out);
    assert_null(strstr(json, "warnings"));
    assert_non_null(strstr(json, "\"2 more info annotations omitted\"]}"));
    ps_buf_done(&out);
}

static void
test_stats(void **state)
{
    const uint64_t steps[] = {3, 4};
    const ev_result r = {.type = PQL_VECTOR,
                         .stats = {.total_samples = 7,
                                   .peak_samples = 5,
                                   .samples_read = 6,
                                   .per_step = steps,
                                   .n_steps = 2}};
    ps_buf out;

    (void)state;
    ps_buf_init(&out, &ps_malloc);
    query_render(&out, &(query_rendering){.result = &r,
                                          .stats = true,
                                          .per_step = true,
                                          .start_ms = 1000,
                                          .step_ms = 500,
                                          .timings = {.total = 0.25}});
    const char *json = text_of(&out);
    assert_non_null(strstr(json, "\"execTotalTime\":0.25}"));
    assert_non_null(strstr(json,
                           "\"samples\":{\"totalQueryableSamplesPerStep\":[[1,3],[1.500,4]],"
                           "\"totalQueryableSamples\":7,\"samplesRead\":6,\"peakSamples\":5}}"));
    ps_buf_done(&out);
}

/* A result larger than allowed, and every failing allocation: noticed, nothing half-way is used. */
static void
test_limits(void **state)
{
    const ev_result r = {.type = PQL_VECTOR};
    ps_buf out;

    (void)state;
    for (size_t max = 1; max < 60; max++) {
        ps_buf_init(&out, &ps_malloc);
        out.max = max;
        query_render(&out, &(query_rendering){.result = &r});
        assert_true(out.failed);
        ps_buf_done(&out);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vector),
        cmocka_unit_test(test_matrix_of_both_kinds),
        cmocka_unit_test(test_scalar_string_empty),
        cmocka_unit_test(test_notes_are_few),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
