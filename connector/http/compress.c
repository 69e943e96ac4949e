/*
 * compress.c - answers in fewer bytes, for clients that say they can read them.
 *
 * Texts and JSON shrink to a tenth; what is short or compressed already is sent as it is. The fastest level:
 * a dashboard waits for the answer, and the network is rarely the slower part.
 */
#include <stdlib.h>
#include <zlib.h>

#include "connector/http/internal.h"

enum { WORTH_IT_BYTES = 1024, WINDOW_BITS = 15, GZIP_FLAG = 16, MEMORY_LEVEL = 8 };

static ps_str
next_part(ps_str *rest, char at)
{
    const char *p = rest->len ? memchr(rest->ptr, at, rest->len) : NULL;
    ps_str part = {rest->ptr, p ? (size_t)(p - rest->ptr) : rest->len};

    *rest = p ? (ps_str){p + 1, rest->len - part.len - 1} : (ps_str){"", 0};
    return ps_str_trim(part);
}

/* "q=0" and "q=0.000" say: not this one. */
static bool
refused(ps_str params)
{
    while (params.len > 0) {
        ps_str value = next_part(&params, ';'), name = next_part(&value, '=');
        double q;
        if (ps_str_eq_nocase(name, PS_STR("q")) && ps_parse_double(value, &q) == PS_OK && q <= 0)
            return true;
    }
    return false;
}

static bool
is_text(const char *content_type)
{
    return content_type != NULL && (strncmp(content_type, "text/", 5) == 0 ||
                                    strncmp(content_type, "application/json", 16) == 0);
}

const char *
http_coding_of(const http_request *r, int status, const char *content_type, size_t len)
{
    ps_str accepted;

    if (len < WORTH_IT_BYTES || status == 204 || !is_text(content_type) ||
        !http_header(r, "Accept-Encoding", &accepted))
        return NULL;
    while (accepted.len > 0) {
        ps_str params = next_part(&accepted, ','), coding = next_part(&params, ';');
        if (refused(params))
            continue;
        if (ps_str_eq_nocase(coding, PS_STR("gzip")))
            return "gzip";
        if (ps_str_eq_nocase(coding, PS_STR("deflate")))
            return "deflate";
    }
    return NULL;
}

/* zlib counts in unsigned int: larger bodies go in pieces. */
static int
deflate_all(z_stream *z, ps_str body)
{
    const size_t piece = (size_t)1 << 30;
    size_t at = 0;
    int st;

    do {
        size_t n = body.len - at < piece ? body.len - at : piece;
        z->next_in = (Bytef *)(uintptr_t)(body.ptr + at);
        z->avail_in = (uInt)n;
        at += n;
        st = deflate(z, at == body.len ? Z_FINISH : Z_NO_FLUSH);
    } while (st == Z_OK && at < body.len);
    return st;
}

ps_status
http_compress(const char *coding, ps_str body, ps_str *ret)
{
    z_stream z = {0};
    int bits = WINDOW_BITS + (coding[0] == 'g' ? GZIP_FLAG : 0);

    if (body.len > (size_t)3 << 30 ||
        deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, bits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return PS_ENOMEM;
    size_t room = deflateBound(&z, body.len);
    char *out = malloc(room);
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    int st = out != NULL && room <= UINT32_MAX ? deflate_all(&z, body) : Z_MEM_ERROR;
    size_t len = z.total_out;
    (void)deflateEnd(&z);
    if (st != Z_STREAM_END) {
        free(out);
        return PS_ENOMEM;
    }
    char *fit = realloc(out, len); /* the answer may wait for its reader a long time */
    *ret = (ps_str){fit != NULL ? fit : out, len};
    return PS_OK;
}
