/*
 * labels.h - which series there are, over HTTP: /api/v1/series, /api/v1/labels and
 * /api/v1/label/<name>/values.
 */
#ifndef PROMSCALE_CONNECTOR_LABELS_H
#define PROMSCALE_CONNECTOR_LABELS_H

#include "connector/api/api.h"
#include "connector/read/find.h"

/* Endpoints; self is not used. The last one's route is LABELS_VALUES_PREFIX "*". */
#define LABELS_VALUES_PREFIX "/api/v1/label/"
void labels_series(api_job *job, void *self);
void labels_names(api_job *job, void *self);
void labels_values(api_job *job, void *self);

/* The match[] parameters of a request, in its arena. PS_EINVAL: *err says what Prometheus says. */
ps_status labels_matches(api_job *job, const read_match **ret, size_t *ret_n,
                         ps_err *err) PS_MUST_CHECK;

/* A label name as exposition formats without UTF-8 write it ("U__a_2e_b" is "a.b"); what is not such a name
 * stays as it is. The result may be in the arena. PS_ENOMEM. */
ps_status labels_unescape(ps_arena *arena, ps_str name, ps_str *ret, ps_err *err) PS_MUST_CHECK;

#endif
