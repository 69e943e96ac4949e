/*
 * answer.c - ways to answer that the endpoints here share.
 */
#include "connector/info/internal.h"

void
info_answer_text(api_job *job, const char *json)
{
    ps_buf data;

    ps_buf_init(&data, &ps_malloc);
    ps_buf_add_c(&data, json);
    api_answer(job, &data, NULL, 0);
    ps_buf_done(&data);
}

void
info_answer_html_safe(api_job *job, ps_buf *json)
{
    ps_buf safe;

    ps_buf_init(&safe, &ps_malloc);
    safe.failed = json->failed;
    for (size_t i = 0; i < json->len; i++) {
        char c = json->ptr[i];
        if (c == '<' || c == '>' || c == '&')
            ps_buf_addf(&safe, "\\u%04x", (unsigned)c);
        else
            ps_buf_add_char(&safe, c);
    }
    ps_buf_clear(json);
    api_answer(job, &safe, NULL, 0);
    ps_buf_done(&safe);
}

void
info_key(ps_buf *out, const char *name)
{
    if (out->len > 0 && !out->failed && out->ptr[out->len - 1] != '{')
        ps_buf_add_char(out, ',');
    api_json_text(out, ps_str_c(name), false);
    ps_buf_add_char(out, ':');
}
