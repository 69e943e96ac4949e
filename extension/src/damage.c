/*
 * damage.c - see damage.h.
 *
 * A statement may come to the same block many times (passes, rescans, subqueries, calls of promql()), so
 * it is remembered which blocks were told of. A statement is what the client sent: its start time says
 * whether it is still the same one. The memory is static and small; beyond it blocks are only counted.
 */
#include "damage.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum { WARNINGS = 10, REMEMBERED = 1024 };
enum { POLICY_WARN, POLICY_ERROR };

static int policy = POLICY_WARN;

static struct {
    TimestampTz statement;
    int n;         /* blocks that were told of or counted */
    int n_warned;  /* of them, by name */
    uint64 n_rest; /* the others, until damage_rest */
    int64 ids[REMEMBERED];
    const char *tables[REMEMBERED];
} told;

void
damage_define_settings(void)
{
    static const struct config_enum_entry policies[] = {
        {"warn", POLICY_WARN, false}, {"error", POLICY_ERROR, false}, {NULL, 0, false}};

    DefineCustomEnumVariable("promscale.damaged_blocks",
                             "What a query does about a block that cannot be read.",
                             "warn: leaves its samples out and says so; error: fails.", &policy,
                             POLICY_WARN, policies, PGC_USERSET, 0, NULL, NULL, NULL);
}

/* ---- telling ------------------------------------------------------------------------------ */

/* False: this statement was told of the block before. */
static bool
is_news(const char *table, int64 id)
{
    TimestampTz statement = GetCurrentStatementStartTimestamp();

    if (told.statement != statement) {
        told.statement = statement;
        told.n = told.n_warned = 0;
        told.n_rest = 0;
    }
    for (int i = 0; i < told.n; i++) {
        if (told.ids[i] == id && strcmp(told.tables[i], table) == 0)
            return false;
    }
    if (told.n < REMEMBERED) {
        told.ids[told.n] = id;
        told.tables[told.n++] = table;
    }
    return true;
}

/* The name of a metric for people, in the caller's context. */
static char *
name_metric(int32 metric_id)
{
    MemoryContext caller = CurrentMemoryContext;
    char *name = NULL;

    if (metric_id < 0)
        return psprintf("Small metrics (metric_id %d)", metric_id);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    SPI_execute_with_args("SELECT metric_name FROM _prom_catalog.metric"
                          " WHERE id OPERATOR(pg_catalog.=) $1",
                          1, (Oid[]){INT4OID}, (Datum[]){Int32GetDatum(metric_id)}, NULL, true, 1);
    if (SPI_processed == 1) {
        char *text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

        if (text != NULL)
            name = MemoryContextStrdup(caller, text);
    }
    SPI_finish();
    return name != NULL ? psprintf("Metric \"%s\" (metric_id %d)", name, metric_id)
                        : psprintf("metric_id %d", metric_id);
}

static char *
time_text(int64 ms)
{
    TimestampTz t;

    if (!bridge_ms_to_timestamptz(ms, &t))
        return psprintf(INT64_FORMAT " ms", ms);
    return pstrdup(timestamptz_to_str(t));
}

void
damage_found(const char *table, int64 id, const blk_meta *meta, ps_status status, const ps_err *err)
{
    const char *why = bridge_text(status, err);

    if (policy == POLICY_ERROR)
        ereport(ERROR,
                (errcode(bridge_sqlstate(status)), errmsg_internal("%s", why),
                 errdetail_internal("Block " INT64_FORMAT " of table %s (metric_id %d).", id, table,
                                    meta->metric_id),
                 errhint("With promscale.damaged_blocks = warn its samples are left out.")));
    if (!is_news(table, id))
        return;
    if (told.n_warned >= WARNINGS) {
        told.n_rest++;
        return;
    }
    told.n_warned++;
    /* SPI is not to run while an error is being put together */
    const char *metric = name_metric(meta->metric_id);
    ereport(WARNING,
            (errcode(bridge_sqlstate(status)),
             errmsg("block " INT64_FORMAT " of table %s cannot be read, its samples are left out",
                    id, table),
             errdetail("%s, from %s to %s: %s.", metric, time_text(meta->t_min_ms),
                       time_text(meta->t_max_ms), why),
             errhint("prom_api.verify() names all damaged blocks.")));
}

void
damage_rest(bool late)
{
    uint64 n = told.n_rest;

    if (n == 0 || (!late && told.statement != GetCurrentStatementStartTimestamp()))
        return;
    told.n_rest = 0;
    ereport(WARNING, (errcode(ERRCODE_DATA_CORRUPTED),
                      errmsg("more blocks cannot be read, their samples are left out: " UINT64_FORMAT,
                             n),
                      errhint("prom_api.verify() names all damaged blocks.")));
}

/* ---- rows --------------------------------------------------------------------------------- */

ps_status
damage_check_row(const blk_meta *m, ps_err *err)
{
    if (m->n_series < 1 || m->n_samples < m->n_series || (size_t)m->n_samples > BLK_MAX_SAMPLES)
        return ps_fail(err, PS_ECORRUPT, "the row says %d series and %d samples", m->n_series,
                       m->n_samples);
    if (m->series_lo > m->series_hi || m->t_min_ms > m->t_max_ms)
        return ps_fail(err, PS_ECORRUPT, "the row's bounds contradict each other");
    return PS_OK;
}

/* ---- storage ------------------------------------------------------------------------------ */

/* Errors that tell of what is stored, and not of this session. */
static bool
tells_of_storage(int sqlstate)
{
    return sqlstate == ERRCODE_DATA_CORRUPTED || sqlstate == ERRCODE_INDEX_CORRUPTED ||
           sqlstate == ERRCODE_INTERNAL_ERROR || sqlstate == ERRCODE_IO_ERROR ||
           sqlstate == ERRCODE_UNDEFINED_FILE;
}

ps_status
damage_guarded(void (*fn)(void *arg), void *arg, ps_err *err)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile ps_status status = PS_OK;

    if (IsInParallelMode()) {
        fn(arg);
        return PS_OK;
    }
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        fn(arg);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);

        ErrorData *e = CopyErrorData();

        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = owner;
        if (!tells_of_storage(e->sqlerrcode))
            ReThrowError(e);
        status = ps_fail(err, PS_ECORRUPT, "%s", e->message);
        FreeErrorData(e);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return status;
}

typedef struct detoasting {
    struct varlena *data, *plain;
    size_t max_bytes;
} detoasting;

static void
detoast(void *arg)
{
    detoasting *d = arg;

    d->plain = d->max_bytes == 0 ? detoast_attr(d->data)
                                 : detoast_attr_slice(d->data, 0, (int32)d->max_bytes);
}

ps_status
damage_detoast(struct varlena *data, size_t max_bytes, struct varlena **ret, ps_err *err)
{
    detoasting d = {.data = data, .max_bytes = max_bytes};

    *ret = data;
    if (!VARATT_IS_EXTERNAL(data) && !VARATT_IS_COMPRESSED(data))
        return PS_OK;
    PS_TRY(damage_guarded(detoast, &d, err));
    *ret = d.plain;
    return PS_OK;
}
