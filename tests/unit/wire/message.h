/*
 * message.h - a remote write message and a reader over it, for the tests of the reader.
 */
#ifndef PROMSCALE_TESTS_UNIT_WIRE_MESSAGE_H
#define PROMSCALE_TESTS_UNIT_WIRE_MESSAGE_H

#include "tests/unit/support.h"

#include "lib/wire/wire.h"

typedef struct message { /* a heap copy of exactly its size, and a reader over it */
    char *bytes;
    size_t len;
    wire_write_reader reader;
    wire_series series;
    wire_metadata metadata;
} message;

static inline void
open_bytes(message *m, const void *bytes, size_t len)
{
    memset(m, 0, sizeof *m);
    m->bytes = test_exact_copy(bytes, len);
    m->len = len;
    wire_write_reader_init(&m->reader, (ps_str){m->bytes, len});
}

static inline void
open_hex(message *m, const char *hex)
{
    uint8_t bytes[1024];
    open_bytes(m, bytes, test_unhex(bytes, hex));
}

static inline void
done(message *m)
{
    free(m->bytes);
}

static inline wire_item
next(message *m)
{
    wire_item item = (wire_item)99;
    ps_err err = {.text = ""};
    if (wire_write_next(&m->reader, &item, &m->series, &m->metadata, &err) != PS_OK)
        fail_msg("%s", err.text);
    return item;
}

static inline void
assert_end(message *m)
{
    assert_int_equal(next(m), WIRE_END);
    assert_int_equal(next(m), WIRE_END); /* and again */
    done(m);
}

#endif
