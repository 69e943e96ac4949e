/*
 * fuzz_numtext.c - numbers, durations and sizes as text.
 *
 * Whatever is accepted must survive being written and read again, and a double must be what the C
 * library reads (which is correctly rounded, in the C locale). The first eight bytes are also taken
 * as a double and as a whole number, and written and read.
 */
#include <math.h>

#include "lib/base/base.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_TEXT = 4096 };

static void
check_double_text(double v)
{
    char text[PS_DOUBLE_TEXT];
    double again;
    size_t len = ps_format_double(text, v);
    REQUIRE(len > 0 && len < PS_DOUBLE_TEXT && text[len] == '\0');
    REQUIRE(ps_parse_double((ps_str){text, len}, &again) == PS_OK);
    REQUIRE(isnan(v) ? isnan(again) : ps_bits_of(again) == ps_bits_of(v));
    if (isfinite(v))
        REQUIRE(ps_bits_of(strtod(text, NULL)) == ps_bits_of(v));
}

static void
check_parse_double(ps_str s)
{
    char copy[MAX_TEXT + 1];
    char *end;
    double v;
    ps_status status = ps_parse_double(s, &v);
    memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    double expected = strtod(copy, &end);
    if (status == PS_OK) {
        REQUIRE(end == copy + s.len);
        REQUIRE(isnan(v) ? isnan(expected) : ps_bits_of(v) == ps_bits_of(expected));
        check_double_text(v);
        return;
    }
    /* We refuse what strtod does not read to the end, and: leading blanks, payloads of NaN, numbers
     * too large. */
    bool blank = s.len > 0 && (copy[0] == ' ' || (copy[0] >= '\t' && copy[0] <= '\r'));
    REQUIRE(status == PS_EINVAL);
    REQUIRE(s.len == 0 || end != copy + s.len || blank || isnan(expected) || isinf(expected));
}

static void
check_duration(int64_t ms)
{
    char text[PS_DURATION_TEXT];
    int64_t again;
    size_t len = ps_format_duration(text, sizeof text, ms);
    REQUIRE(len > 0 && len < sizeof text && text[len] == '\0');
    ps_str s = {text, len};
    if (ms < 0) { /* written with a sign, which is not read */
        REQUIRE(ps_parse_duration(s, &again) == PS_EINVAL);
        s = (ps_str){text + 1, len - 1};
        if (ps_parse_duration(s, &again) == PS_OK)
            REQUIRE(again == -ms);
        else
            REQUIRE(ms == INT64_MIN);
        return;
    }
    REQUIRE(ps_parse_duration(s, &again) == PS_OK && again == ms);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > MAX_TEXT)
        return 0;
    char *exact = malloc(size == 0 ? 1 : size);
    REQUIRE(exact != NULL);
    if (size > 0)
        memcpy(exact, data, size);
    ps_str s = {exact, size};
    int64_t v;
    check_parse_double(s);
    if (ps_parse_duration(s, &v) == PS_OK) {
        REQUIRE(v >= 0);
        check_duration(v);
    }
    if (ps_parse_size(s, &v) == PS_OK)
        REQUIRE(v >= 0);
    if (ps_parse_i64(s, &v) == PS_OK) {
        double d;
        REQUIRE(ps_parse_double(s, &d) == PS_OK);
        REQUIRE(d == (double)v);
    }
    if (size >= 8) {
        uint64_t bits = ps_get_u64le(exact);
        check_double_text(ps_double_of(bits));
        check_duration((int64_t)bits);
    }
    free(exact);
    return 0;
}
