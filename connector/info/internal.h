/*
 * internal.h of connector/info - what its files share.
 */
#ifndef PROMSCALE_CONNECTOR_INFO_INTERNAL_H
#define PROMSCALE_CONNECTOR_INFO_INTERNAL_H

#include "connector/info/info.h"

/* admin.c: false: it was answered that the admin API is off. */
bool info_admin_allowed(api_job *job);

/* answer.c */
/* For answers that are the same each time. */
void info_answer_text(api_job *job, const char *json);
/* Puts \u003c for < and so on: in JSON they stand in texts only. Empties json. */
void info_answer_html_safe(api_job *job, ps_buf *json);
/* ,"name": (no comma after a brace) */
void info_key(ps_buf *out, const char *name);

#endif
