/*
 * head.c - a request's own copy of its head: path, query, headers, announced length.
 *
 * Copied into the request's arena, since the library's memory ends with the exchange, while a handler
 * may keep the request longer (the server can answer in its place when it stops). Bounded by the
 * library's memory per connection.
 */
#include <stdlib.h>

#include "connector/http/internal.h"

enum { HEAD_BUDGET = 1 << 20, MAX_PAIRS = 512 };

http_request *
http_request_new(http_server *s, http_conn *conn, struct MHD_Connection *mhd, const char *uri)
{
    http_request *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return NULL;
    r->server = s;
    r->conn = conn;
    r->mhd = mhd;
    r->refs = 1;
    r->stage = STAGE_NEW;
    ps_arena_init(&r->arena, &ps_malloc, HEAD_BUDGET);
    if (ps_arena_dup(&r->arena, ps_str_c(uri), &r->raw_uri) != PS_OK) {
        http_request_free(r);
        return NULL;
    }
    r->identity.request_id = atomic_fetch_add(&s->next_id, 1);
    return r;
}

void
http_request_free(http_request *r)
{
    http_body_free(r);
    if (r->answer != NULL)
        MHD_destroy_response(r->answer);
    ps_arena_done(&r->arena);
    free(r);
}

bool
http_pairs_add(http_request *r, http_pairs *pairs, ps_str name, ps_str value)
{
    if (pairs->n == pairs->cap) {
        size_t cap = pairs->cap ? pairs->cap * 2 : 16;
        http_pair *items = cap <= MAX_PAIRS ? ps_arena_array(&r->arena, cap, sizeof(*items)) : NULL;
        if (items == NULL)
            return false;
        if (pairs->n > 0)
            memcpy(items, pairs->items, pairs->n * sizeof(*items));
        pairs->items = items;
        pairs->cap = cap;
    }
    http_pair *p = &pairs->items[pairs->n];
    if (ps_arena_dup(&r->arena, name, &p->name) != PS_OK ||
        ps_arena_dup(&r->arena, value, &p->value) != PS_OK)
        return false;
    pairs->n++;
    return true;
}

/* ---- path and query ------------------------------------------------------------------------ */

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decoding into the arena; false on a broken escape, a NUL, or no memory. */
static bool
decode(http_request *r, ps_str in, bool plus_is_space, ps_str *ret)
{
    char *out = ps_arena_new(&r->arena, in.len + 1);
    size_t n = 0;

    if (out == NULL)
        return false;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '%') {
            int hi = i + 2 < in.len ? hex_digit(in.ptr[i + 1]) : -1;
            int lo = hi >= 0 ? hex_digit(in.ptr[i + 2]) : -1;
            if (lo < 0)
                return false;
            c = (char)(hi * 16 + lo);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == 0)
            return false;
        out[n++] = c;
    }
    *ret = (ps_str){out, n};
    return true;
}

static ps_status
read_query(http_request *r, ps_str text, ps_err *err)
{
    while (text.len > 0) {
        const char *amp = memchr(text.ptr, '&', text.len);
        ps_str item = {text.ptr, amp ? (size_t)(amp - text.ptr) : text.len};
        size_t skip = item.len + (amp != NULL);
        text.ptr += skip;
        text.len -= skip;
        if (item.len == 0)
            continue;
        const char *eq = memchr(item.ptr, '=', item.len);
        ps_str name = {item.ptr, eq ? (size_t)(eq - item.ptr) : item.len};
        ps_str value = {eq ? eq + 1 : "", eq ? item.len - name.len - 1 : 0};
        if (!decode(r, name, true, &name) || !decode(r, value, true, &value))
            return ps_fail(err, PS_EINVAL, "the query string is not valid");
        if (!http_pairs_add(r, &r->query, name, value))
            return ps_fail(err, PS_EINVAL, "too many query parameters");
    }
    return PS_OK;
}

/* "/a%20b?x=1" or "http://host/a%20b?x=1", which proxies send. */
static ps_status
read_uri(http_request *r, ps_err *err)
{
    ps_str path = r->raw_uri, query = {"", 0};
    const char *mark;

    if (ps_str_starts(path, PS_STR("http://"))) {
        const char *slash = memchr(path.ptr + 7, '/', path.len - 7);
        path = slash ? (ps_str){slash, (size_t)(path.ptr + path.len - slash)} : PS_STR("/");
    }
    if ((mark = memchr(path.ptr, '?', path.len)) != NULL) {
        query = (ps_str){mark + 1, (size_t)(path.ptr + path.len - mark - 1)};
        path.len = (size_t)(mark - path.ptr);
    }
    r->path = PS_STR("?");
    if (path.len == 0 || path.ptr[0] != '/' || !decode(r, path, false, &r->path))
        return ps_fail(err, PS_EINVAL, "the path is not valid");
    return read_query(r, query, err);
}

/* ---- headers ------------------------------------------------------------------------------- */

static enum MHD_Result
copy_header(void *self, enum MHD_ValueKind kind, const char *name, size_t name_len,
            const char *value, size_t value_len)
{
    http_request *r = self;
    bool ok = http_pairs_add(r, &r->headers, (ps_str){name, name_len},
                             (ps_str){value ? value : "", value_len});

    (void)kind;
    return ok ? MHD_YES : MHD_NO;
}

/* Two lengths, or a length and an encoding: two readers could see two different requests. */
static ps_status
read_length(http_request *r, ps_err *err)
{
    ps_str length = {NULL, 0}, encoding = {NULL, 0};

    for (size_t i = 0; i < r->headers.n; i++) {
        const http_pair *h = &r->headers.items[i];
        bool is_length = ps_str_eq_nocase(h->name, PS_STR("Content-Length"));
        ps_str *field = is_length ? &length : &encoding;
        if (!is_length && !ps_str_eq_nocase(h->name, PS_STR("Transfer-Encoding")))
            continue;
        if (field->ptr != NULL)
            return ps_fail(err, PS_EINVAL, "%s is given twice",
                           is_length ? "Content-Length" : "Transfer-Encoding");
        *field = h->value;
    }
    if (encoding.ptr != NULL && length.ptr != NULL)
        return ps_fail(err, PS_EINVAL, "Content-Length and Transfer-Encoding are both given");
    if (encoding.ptr != NULL && !ps_str_eq_nocase(encoding, PS_STR("chunked")))
        return ps_fail(err, PS_EUNSUPPORTED, "this Transfer-Encoding is not supported");
    int64_t n = 0;
    if (length.ptr != NULL && (ps_parse_i64(length, &n) != PS_OK || n < 0))
        return ps_fail(err, PS_EINVAL, "Content-Length is not a number");
    r->content_length = encoding.ptr != NULL ? SIZE_MAX : (size_t)n;
    return PS_OK;
}

ps_status
http_request_read_head(http_request *r, struct MHD_Connection *c, ps_err *err)
{
    int seen = MHD_get_connection_values_n(c, MHD_HEADER_KIND, NULL, NULL);
    int copied = MHD_get_connection_values_n(c, MHD_HEADER_KIND, copy_header, r);

    if (copied != seen)
        return ps_fail(err, PS_EINVAL, "too many headers");
    PS_TRY(read_length(r, err));
    return read_uri(r, err);
}

/* ---- what handlers ask ----------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned method;
} methods[] = {{"GET", HTTP_GET}, {"HEAD", HTTP_HEAD},       {"POST", HTTP_POST},
               {"PUT", HTTP_PUT}, {"OPTIONS", HTTP_OPTIONS}, {"DELETE", HTTP_DELETE}};

unsigned
http_method_of(const char *name)
{
    for (size_t i = 0; i < PS_ARRAY_LEN(methods); i++) {
        if (strcmp(methods[i].name, name) == 0)
            return methods[i].method;
    }
    return 0;
}

bool
http_route_allows(const http_route *route, unsigned method)
{
    return (method & route->methods) != 0 || (method == HTTP_HEAD && (route->methods & HTTP_GET));
}

void
http_route_allow(const http_route *route, char *dst, size_t cap)
{
    size_t len = 0;

    dst[0] = 0;
    for (size_t i = 0; i < PS_ARRAY_LEN(methods); i++) {
        size_t n = strlen(methods[i].name);
        if (!http_route_allows(route, methods[i].method) || len + n + 3 > cap)
            continue;
        if (len > 0) {
            memcpy(dst + len, ", ", 2);
            len += 2;
        }
        memcpy(dst + len, methods[i].name, n + 1);
        len += n;
    }
}

/* The exact path, else the longest prefix. */
const http_route *
http_route_find(const http_server *s, ps_str path)
{
    const http_route *best = NULL;
    size_t best_len = 0;

    for (size_t i = 0; i < s->n_routes; i++) {
        const http_route *route = &s->routes[i];
        size_t len = strlen(route->path);
        if (ps_str_eq_c(path, route->path))
            return route;
        if (len > 0 && route->path[len - 1] == '*' && len > best_len &&
            ps_str_starts(path, (ps_str){route->path, len - 1})) {
            best = route;
            best_len = len;
        }
    }
    return best;
}

unsigned
http_method(const http_request *r)
{
    return r->method;
}

ps_str
http_path(const http_request *r)
{
    return r->path;
}

bool
http_header(const http_request *r, const char *name, ps_str *ret)
{
    for (size_t i = 0; i < r->headers.n; i++) {
        if (ps_str_eq_nocase(r->headers.items[i].name, ps_str_c(name))) {
            *ret = r->headers.items[i].value;
            return true;
        }
    }
    return false;
}

bool
http_query(const http_request *r, const char *name, ps_str *ret)
{
    for (size_t i = 0; i < r->query.n; i++) {
        if (ps_str_eq_c(r->query.items[i].name, name)) {
            *ret = r->query.items[i].value;
            return true;
        }
    }
    return false;
}

bool
http_query_at(const http_request *r, size_t i, ps_str *ret_name, ps_str *ret_value)
{
    if (i >= r->query.n)
        return false;
    *ret_name = r->query.items[i].name;
    *ret_value = r->query.items[i].value;
    return true;
}

ps_str
http_body(const http_request *r)
{
    return (ps_str){r->body_len ? r->body : "", r->body_len};
}

const http_identity *
http_request_identity(const http_request *r)
{
    return &r->identity;
}

bool
http_client_gone(const http_request *r)
{
    return atomic_load_explicit(&r->client_gone, memory_order_relaxed);
}
