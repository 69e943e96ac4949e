/*
 * cors.c - scripts in pages of other origins: who may call, and what a browser wants to be told
 * (https://fetch.spec.whatwg.org/#http-cors-protocol). The headers are those of Prometheus.
 */
#include "connector/http/internal.h"

ps_status
http_cors_start(http_server *s, const char *origins, ps_err *err)
{
    ps_str pattern = origins != NULL ? ps_str_c(origins) : PS_STR("");

    if (pattern.len == 0)
        return PS_OK;
    s->any_origin = ps_str_eq_c(pattern, ".*");
    return re_compile(pattern, &s->origins, err);
}

void
http_cors_headers(http_request *r)
{
    http_server *s = r->server;
    ps_str origin;
    char text[512];

    if (r->route == NULL || !r->route->cors || s->origins == NULL)
        return;
    http_set_header(r, "Vary", "Origin");
    if (!http_header(r, "Origin", &origin) || origin.len == 0 || origin.len >= sizeof(text))
        return;
    http_set_header(r, "Access-Control-Allow-Headers",
                    "Accept, Authorization, Content-Type, Origin");
    http_set_header(r, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    http_set_header(r, "Access-Control-Expose-Headers", "Date");
    if (s->any_origin) {
        http_set_header(r, "Access-Control-Allow-Origin", "*");
    } else if (re_matches(s->origins, origin)) {
        memcpy(text, origin.ptr, origin.len);
        text[origin.len] = 0;
        http_set_header(r, "Access-Control-Allow-Origin", text);
    }
}
