/*
 * test_coded.c - coded groups by themselves: values come back to the bit whatever they are and from whatever
 * position they are asked for; coded is smaller than frames where it should be; damage is refused or decodes to
 * something, and never reads beyond what is there.
 */
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/block/internal.h"
#include "tests/unit/block/blockgen.h"

typedef struct coded { /* one series, copied so that a sanitizer sees what is read beyond it */
    blk_codec_scratch scratch;
    blk_encoded e;
    uint8_t *head, *body;
    size_t head_len, body_len;
    blk_vcol c;
} coded;

/* Encodes v[0..n) with all means; false if something else than coded won. */
static bool
encode(coded *s, const double *v, size_t n)
{
    ps_buf head, body;

    memset(s, 0, sizeof *s);
    blk_codec_scratch_init(&s->scratch, &ps_malloc);
    assert_int_equal(blk_codec_encode(&ps_malloc, &s->scratch, v, n, true, &s->e), PS_OK);
    ps_buf_init(&head, &ps_malloc);
    ps_buf_init(&body, &ps_malloc);
    blk_codec_put(&s->e, v[n - 1], n, &head, &body);
    s->head_len = head.len;
    s->body_len = body.len;
    s->head = malloc(head.len + 1);
    s->body = malloc(body.len + 1);
    memcpy(s->head, head.ptr, head.len);
    if (body.len > 0)
        memcpy(s->body, body.ptr, body.len);
    ps_buf_done(&head);
    ps_buf_done(&body);
    return s->e.codec == BLK_CODEC_DEC_CODED || s->e.codec == BLK_CODEC_BITS_CODED;
}

static void
done(coded *s)
{
    blk_codec_scratch_done(&s->scratch, &ps_malloc);
    free(s->head);
    free(s->body);
}

static ps_status
decode(coded *s, size_t n, size_t lo, size_t count, double *out)
{
    blk_in in = {s->head, s->head + s->head_len, false};
    ps_status status = blk_codec_parse(&in, s->e.codec, blk_codec_flags(&s->e), (uint32_t)n, NULL, &s->c);

    if (status != PS_OK)
        return status;
    if (s->c.body_len > s->body_len) /* the reader of blocks adds lengths up and refuses this */
        return PS_ECORRUPT;
    return blk_codec_decode(&ps_malloc, &s->scratch, &s->c, (uint32_t)n, s->body, s->body_len, lo, count,
                            out);
}

/* Sums of three: what is measured is never spread evenly. */
static double
uneven(uint64_t *state, unsigned width)
{
    return (double)(gen_below(state, width) + gen_below(state, width) + gen_below(state, width)) -
           1.5 * (width - 1);
}

enum { WALK, NOISE, TREND, RARE, RESETS, STALE, FLOAT_WALK, MIXED, SHAPES };

static void
fill(uint64_t *state, unsigned shape, double *v, size_t n)
{
    double at = 5000;

    for (size_t i = 0; i < n; i++) {
        switch (shape) {
        case WALK:
            v[i] = floor(at += uneven(state, 9)) / 100;
            break;
        case NOISE:
            v[i] = floor(at + uneven(state, 41));
            break;
        case TREND:
            v[i] = at += floor(900 + (double)i / 3 + uneven(state, 100));
            break;
        case RARE:
            v[i] = at += gen_below(state, 3) == 0;
            break;
        case RESETS:
            at = gen_below(state, 300) == 0 ? 0 : at + floor(200 + uneven(state, 30));
            v[i] = at;
            break;
        case STALE:
            at += floor(uneven(state, 7) + 40);
            v[i] = gen_below(state, 90) == 0 || i + 1 == n ? ps_double_of(MDL_STALE_NAN_BITS) : at;
            break;
        case FLOAT_WALK:
            v[i] = at += uneven(state, 1 << 20) * 0x1p-50;
            break;
        case MIXED: /* quiet, then lively, then quiet, then huge */
            at += i / 600 % 2 ? floor(uneven(state, 3000)) : i / 600 % 3 ? 0 : uneven(state, 3);
            v[i] = i % 611 == 610 ? at * 1e9 : at;
            break;
        }
    }
}

static void
test_back_to_the_bit(void **unused)
{
    uint64_t state = 21;
    unsigned coded_ones[SHAPES] = {0};

    (void)unused;
    for (unsigned round = 0; round < 400; round++) {
        const unsigned shape = round % SHAPES;
        const size_t n = 240 + gen_below(&state, round % 5 == 0 ? 6000 : 1500);
        double *v = malloc(n * sizeof *v), *out = malloc(n * sizeof *out);
        coded s;
        fill(&state, shape, v, n);
        coded_ones[shape] += encode(&s, v, n);
        assert_int_equal(decode(&s, n, 0, n, out), PS_OK);
        assert_memory_equal(out, v, n * sizeof *v);
        for (unsigned k = 0; k < 20; k++) { /* parts: in a group, over its ends, the last value */
            size_t lo = gen_below(&state, n), count = 1 + gen_below(&state, k < 10 ? n - lo : 3);
            count = count > n - lo ? n - lo : count;
            double *part = malloc(count * sizeof *part);
            assert_int_equal(decode(&s, n, lo, count, part), PS_OK);
            assert_memory_equal(part, v + lo, count * sizeof *v);
            free(part);
        }
        done(&s);
        free(v);
        free(out);
    }
    for (unsigned shape = 0; shape < SHAPES; shape++)
        assert_true(coded_ones[shape] > 10);
}

/* Whatever the integers, also those whose averages wrap. */
static void
test_any_integers(void **unused)
{
    uint64_t state = 22, v[1300];
    double out[1300];

    (void)unused;
    for (unsigned round = 0; round < 300; round++) {
        size_t n = 2 + gen_below(&state, PS_ARRAY_LEN(v) - 2);
        unsigned width = 1 + (unsigned)gen_below(&state, 64);
        blk_scratch scratch = {0};
        ps_buf head, body;
        bool smaller;
        for (size_t i = 0; i < n; i++) {
            v[i] = gen_u64(&state) >> (64 - width);
            if (round % 3 == 1 && i > 0)
                v[i] = v[i - 1] + (v[i] >> 1) - (v[i] >> 2);
            if (round % 3 == 2)
                v[i] = gen_below(&state, 9) ? 7 : v[i];
        }
        ps_buf_init(&head, &ps_malloc);
        ps_buf_init(&body, &ps_malloc);
        assert_int_equal(blk_coded_encode(&ps_malloc, &scratch, v, n, blk_coded_planned(v, n).rule, 99,
                                          NULL, false, SIZE_MAX, &head, &body, &smaller),
                         PS_OK);
        if (smaller) { /* not if there is nothing to code */
            blk_vcol c = {.codec = BLK_CODEC_BITS_CODED,
                          .frames = (const uint8_t *)head.ptr,
                          .frames_len = (uint32_t)head.len,
                          .body_len = (uint32_t)body.len};
            assert_true(blk_coded_decode(&c, 99, (uint32_t)n, (const uint8_t *)body.ptr, 0, n,
                                         (blk_coded_out){.values = out}));
            for (size_t i = 0; i < n; i++)
                assert_int_equal(blk_ordered_bits(ps_bits_of(out[i])), v[i]);
        }
        ps_buf_done(&head);
        ps_buf_done(&body);
        blk_scratch_done(&ps_malloc, &scratch);
    }
}

static void
test_smaller_than_frames(void **unused)
{
    enum { N = 1920 };
    uint64_t state = 23;
    double v[N];
    blk_encoded frames;
    coded s;

    (void)unused;
    fill(&state, WALK, v, N);
    assert_true(encode(&s, v, N));
    size_t size = s.head_len + s.body_len;
    assert_int_equal(blk_codec_encode(&ps_malloc, &s.scratch, v, N, false, &frames), PS_OK);
    assert_true(size * 100 < (frames.frames.len + frames.body.len) * 92);
    done(&s);
}

/* Residuals of a rule are the shorter, the better it suits: whose plan is it, and does it know how long they are? */
static void
test_plans(void **unused)
{
    enum { MOST = 5000, WANDERING, NOISY, CLIMBING, STEADY, CASES };
    uint64_t state = 25, v[MOST];
    unsigned averaging = 0, rounds = 0;

    (void)unused;
    for (unsigned round = 0; round < 120; round++) {
        const unsigned made = WANDERING + round % (CASES - WANDERING);
        const size_t n = 240 + gen_below(&state, MOST - 240);
        blk_scratch scratch = {0};
        ps_buf head, body;
        bool smaller;
        uint64_t at = 1000000;
        for (size_t i = 0; i < n; i++) {
            uint64_t r = gen_below(&state, 200) + gen_below(&state, 200);
            at += made == WANDERING ? r - 200 : made == CLIMBING ? 70000 + r : made == STEADY ? 123456 : 0;
            v[i] = made == NOISY ? at + r : made == STEADY ? at + (r == 7) : at;
        }
        const blk_coded_plan plan = blk_coded_planned(v, n);
        ps_buf_init(&head, &ps_malloc);
        ps_buf_init(&body, &ps_malloc);
        assert_int_equal(blk_coded_encode(&ps_malloc, &scratch, v, n, plan.rule, 0, NULL, true, SIZE_MAX,
                                          &head, &body, &smaller),
                         PS_OK);
        if (made == CLIMBING || made == STEADY)
            assert_true(plan.rule & BLK_RULE_SLOPE);
        if (made == NOISY || made == CLIMBING) { /* around a level, around a slope: the mean tells more than the last */
            averaging += (plan.rule & BLK_RULE_AVERAGE) > 0;
            rounds++;
        }
        if (made == WANDERING) /* the last one says all */
            assert_true((plan.rule & BLK_RULE_SLOPE) || plan.rule == 0);
        if (made != STEADY) { /* that is a few bytes only */
            assert_true(plan.bytes * 100 > (head.len + body.len) * 90);
            assert_true(plan.bytes * 100 < (head.len + body.len) * 105);
        }
        ps_buf_done(&head);
        ps_buf_done(&body);
        blk_scratch_done(&ps_malloc, &scratch);
    }
    assert_int_equal(averaging, rounds);
    assert_int_equal(blk_coded_planned(v, 1).bytes, 0); /* too few to say anything */
    assert_int_equal(blk_coded_planned(v, 2).bytes, 0);
}

/* Every byte changed in several ways: an answer or a refusal, and refusals where the form is broken. */
static void
test_damage(void **unused)
{
    enum { N = 700 };
    uint64_t state = 24;
    double v[N], out[N];
    size_t refused = 0, tried = 0;

    (void)unused;
    for (unsigned shape = 0; shape < SHAPES; shape++) {
        coded s;
        fill(&state, shape, v, N);
        if (!encode(&s, v, N)) {
            done(&s);
            continue;
        }
        for (size_t at = 0; at < s.head_len + s.body_len; at++) {
            uint8_t *p = at < s.head_len ? s.head + at : s.body + (at - s.head_len), before = *p;
            for (unsigned k = 0; k < 6; k++) {
                *p = k < 3 ? before ^ (uint8_t)(1 << gen_below(&state, 8)) : (uint8_t)gen_u64(&state);
                ps_status status = decode(&s, N, 0, N, out);
                assert_true(status == PS_OK || status == PS_ECORRUPT);
                tried++;
                refused += status != PS_OK;
            }
            *p = before;
        }
        for (size_t cut = 0; cut < s.head_len; cut++) { /* heads that end early */
            size_t whole = s.head_len;
            uint8_t *head = s.head, *part = malloc(cut + 1);
            memcpy(part, head, cut);
            s.head = part;
            s.head_len = cut;
            assert_int_equal(decode(&s, N, 0, N, out), PS_ECORRUPT);
            s.head = head;
            s.head_len = whole;
            free(part);
        }
        done(&s);
    }
    assert_true(tried > 10000 && refused > tried / 10);
}

/* Tables of codes that leave something open or say too much. */
static void
test_tables(void **unused)
{
    static const struct {
        const char *table;
        size_t len;
        bool good;
    } cases[] = {
        {"\x02\x11", 2, true},      {"\x01\x01", 2, true},  {"\x01\x02", 2, false},
        {"\x00", 1, false},         {"\x29", 1, false},     {"\x02\x01", 2, true},
        {"\x03\x11\x01", 3, false}, {"\x03\x21\x02", 3, true}, {"\x03\x22\x02", 3, false},
        {"\x02\x1b", 2, false},
    };
    double out[4];

    (void)unused;
    for (size_t i = 0; i < PS_ARRAY_LEN(cases); i++) {
        uint8_t body[64] = {0};
        /* level, s = 0; one group of four values: no low bits, start 0, three symbols 0 */
        uint8_t head[] = {0, 0, 2, 0};
        memcpy(body, cases[i].table, cases[i].len);
        blk_vcol c = {.codec = BLK_CODEC_DEC_CODED,
                      .frames = head,
                      .frames_len = sizeof head,
                      .body_len = (uint32_t)cases[i].len + 2};
        assert_int_equal(blk_coded_decode(&c, 0, 4, body, 0, 4, (blk_coded_out){.values = out}),
                         cases[i].good);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back_to_the_bit),   cmocka_unit_test(test_any_integers),
        cmocka_unit_test(test_smaller_than_frames), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_tables),            cmocka_unit_test(test_plans),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
