/*
 * fuzz_otlp.c - OpenTelemetry's requests from arbitrary bytes; the first two are the settings. What comes
 * out must be a remote write 2.0 message that can be read to the bottom, the same one each time; what is
 * no request must say where.
 */
#include "lib/otlp/otlp.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_REFS = 4096, MAX_EXEMPLARS = 4096 };

static void
refused(void *self, ps_str metric, int64_t n_points, const char *why)
{
    (void)metric;
    REQUIRE(n_points >= 0 && why[0] != 0);
    ++*(size_t *)self;
}

static otlp_settings
settings_of(const uint8_t *bytes)
{
    static const ps_str keys[] = {{"b.c", 3}, {"host", 4}, {"service.name", 12}};
    return (otlp_settings){.utf8 = bytes[0] & 1,
                           .add_suffixes = bytes[0] & 2,
                           .promote_all_resource_attributes = bytes[0] & 4,
                           .keep_identifying_resource_attributes = bytes[0] & 8,
                           .promote_scope_metadata = bytes[0] & 16,
                           .convert_histograms_to_nhcb = bytes[0] & 32,
                           .label_name_underscore_sanitization = bytes[0] & 64,
                           .label_name_preserve_multiple_underscores = bytes[0] & 128,
                           .delta_as_is = bytes[1] & 1,
                           .resource_attributes = keys,
                           .n_resource_attributes = bytes[1] & 2 ? 3 : 0,
                           .lookback_ms = (bytes[1] & 4) * 1000};
}

static ps_status
translate(ps_str message, const otlp_settings *set, ps_buf *out, ps_err *err)
{
    size_t n_refused = 0;
    otlp_refusals refusals = {refused, &n_refused};
    wire_v2_writer *w = wire_v2_writer_new(&ps_malloc, 1 << 28);
    REQUIRE(w != NULL);
    ps_status st = otlp_translate(message, set, &ps_malloc, w, &refusals, err);
    if (st == PS_OK)
        REQUIRE(wire_v2_writer_finish(w, out, NULL) == PS_OK);
    wire_v2_writer_free(w);
    return st;
}

static void
read_series(const wire_v2_reader *r, const wire_v2_series *s, ps_arena *arena)
{
    static uint32_t refs[MAX_REFS];
    static wire_v2_exemplar exemplars[MAX_EXEMPLARS];
    wire_sample sample;
    wire_histogram histogram;
    REQUIRE(s->n_refs % 2 == 0 && s->n_refs <= MAX_REFS && s->n_samples + s->n_histograms == 1);
    wire_v2_refs(s, refs);
    bool named = false;
    for (uint32_t i = 0; i < s->n_refs; i += 2) {
        REQUIRE(refs[i] < r->symbols.n && refs[i + 1] < r->symbols.n);
        named |= ps_str_eq_c(r->symbols.items[refs[i]], MDL_METRIC_NAME);
        for (uint32_t k = 0; k < i; k += 2)
            REQUIRE(refs[i] != refs[k]);
    }
    REQUIRE(named && s->has_metadata);
    wire_v2_samples(s, &sample);
    if (s->n_histograms > 0) {
        REQUIRE(wire_v2_histograms(s, arena, &histogram, NULL) == PS_OK);
        REQUIRE(histogram.histogram != NULL ? hst_check(histogram.histogram, NULL) == PS_OK
                                            : histogram.why != NULL);
    }
    if (s->n_exemplars <= MAX_EXEMPLARS)
        REQUIRE(wire_v2_exemplars(s, exemplars, refs, MAX_REFS, NULL) != PS_ECORRUPT);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ps_buf first, second;
    ps_err err;

    if (size < 3)
        return 0;
    otlp_settings set = settings_of(data);
    size -= 2;
    char *exact = malloc(size);
    REQUIRE(exact != NULL);
    memcpy(exact, data + 2, size);
    ps_buf_init(&first, &ps_malloc);
    ps_buf_init(&second, &ps_malloc);
    ps_status st = translate((ps_str){exact, size}, &set, &first, &err);
    REQUIRE(translate((ps_str){exact, size}, &set, &second, NULL) == st);
    if (st == PS_OK) {
        wire_v2_reader r;
        wire_v2_series s;
        ps_arena arena;
        bool any;
        REQUIRE(ps_str_eq(ps_buf_str(&first), ps_buf_str(&second)));
        ps_arena_init(&arena, &ps_malloc, 0);
        REQUIRE(wire_v2_reader_init(&r, ps_buf_str(&first), 1 << 24, &arena, NULL) == PS_OK);
        while (wire_v2_next(&r, &any, &s, NULL) == PS_OK && any)
            read_series(&r, &s, &arena);
        REQUIRE(!any);
        ps_arena_done(&arena);
    } else {
        REQUIRE(st == PS_ECORRUPT || st == PS_ELIMIT);
        REQUIRE(st == PS_ELIMIT || (err.offset >= 0 && (size_t)err.offset <= size));
    }
    ps_buf_done(&first);
    ps_buf_done(&second);
    free(exact);
    return 0;
}
