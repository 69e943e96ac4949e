/*
 * fuzz_remote_read.c - requests of remote read from arbitrary bytes.
 *
 * What is accepted is within its limits, borrows nothing but the message, and stays the same when it is
 * written down again and read. The input is copied to the heap at its exact size.
 */
#include "lib/wire/internal.h"
#include "tests/fuzz/fuzz.h"

static const wire_read_limits limits = {.max_queries = 20, .max_matchers = 50};

static void
put_matcher(ps_buf *out, const mdl_matcher *m)
{
    ps_buf one;
    ps_buf_init(&one, &ps_malloc);
    wire_put_number(&one, 1, (uint64_t)m->type);
    wire_put_nested(&one, 2, m->name.len);
    ps_buf_add_str(&one, m->name);
    wire_put_nested(&one, 3, m->value.len);
    ps_buf_add_str(&one, m->value);
    wire_put_nested(out, 3, one.len);
    ps_buf_add_str(out, ps_buf_str(&one));
    ps_buf_done(&one);
}

static void
put_request(ps_buf *out, const wire_read_request *r)
{
    ps_buf one;
    ps_buf_init(&one, &ps_malloc);
    for (size_t i = 0; i < r->n_queries; i++) {
        const wire_read_query *q = &r->queries[i];
        ps_buf_clear(&one);
        wire_put_number(&one, 1, (uint64_t)q->start_ms);
        wire_put_number(&one, 2, (uint64_t)q->end_ms);
        for (size_t k = 0; k < q->n_matchers; k++)
            put_matcher(&one, &q->matchers[k]);
        wire_put_nested(out, 1, one.len);
        ps_buf_add_str(out, ps_buf_str(&one));
    }
    ps_buf_add_char(out, (char)WIRE_TAG(2, WIRE_VARINT));
    wire_put_varint(out, r->type == WIRE_READ_UNKNOWN ? 9 : (uint64_t)r->type);
    REQUIRE(!one.failed && !out->failed);
    ps_buf_done(&one);
}

static void
require_same(const wire_read_request *a, const wire_read_request *b)
{
    REQUIRE(a->n_queries == b->n_queries && a->type == b->type);
    for (size_t i = 0; i < a->n_queries; i++) {
        const wire_read_query *p = &a->queries[i], *q = &b->queries[i];
        REQUIRE(p->start_ms == q->start_ms && p->end_ms == q->end_ms);
        REQUIRE(p->n_matchers == q->n_matchers);
        for (size_t k = 0; k < p->n_matchers; k++) {
            REQUIRE(p->matchers[k].type == q->matchers[k].type);
            REQUIRE(ps_str_eq(p->matchers[k].name, q->matchers[k].name));
            REQUIRE(ps_str_eq(p->matchers[k].value, q->matchers[k].value));
        }
    }
}

static void
require_within(ps_str part, ps_str whole)
{
    REQUIRE(part.len == 0 || (part.ptr >= whole.ptr && part.len <= whole.len &&
                              part.ptr + part.len <= whole.ptr + whole.len));
    REQUIRE(ps_utf8_valid(part));
}

static void
check_request(const wire_read_request *r, ps_str message, ps_arena *arena)
{
    wire_read_request again;
    size_t matchers = 0;
    ps_buf out;
    for (size_t i = 0; i < r->n_queries; i++) {
        for (size_t k = 0; k < r->queries[i].n_matchers; k++) {
            require_within(r->queries[i].matchers[k].name, message);
            require_within(r->queries[i].matchers[k].value, message);
        }
        matchers += r->queries[i].n_matchers;
    }
    REQUIRE(r->n_queries <= limits.max_queries && matchers <= limits.max_matchers);
    ps_buf_init(&out, &ps_malloc);
    put_request(&out, r);
    REQUIRE(wire_read_request_parse(ps_buf_str(&out), &limits, arena, &again, NULL) == PS_OK);
    require_same(r, &again);
    ps_buf_done(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size == 0 ? 1 : size);
    ps_arena arena;
    wire_read_request r;
    ps_err err = {.code = PS_OK};
    REQUIRE(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    ps_arena_init(&arena, &ps_malloc, 0);
    ps_status status =
        wire_read_request_parse((ps_str){copy, size}, &limits, &arena, &r, &err);
    if (status == PS_OK)
        check_request(&r, (ps_str){copy, size}, &arena);
    else
        REQUIRE(err.code == status && status != PS_ENOMEM);
    ps_arena_done(&arena);
    free(copy);
    return 0;
}
