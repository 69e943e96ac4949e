/*
 * write_statement.c - what a running statement has gathered, and what becomes of it when things end.
 *
 * Statements nest: the rows of an INSERT may come from a function that runs an INSERT of its own into
 * the same view, perhaps in a block with an exception handler. So the rows of each have to be kept
 * apart, and neither trigger is told which statement it serves. But both are called in a memory
 * context right below the executor state's, and that one belongs to a single run of a single
 * statement and is deleted with it: it is the statement's name here, and the deletion tells us the
 * end of a statement that never called write_end.
 *
 * How a statement may end:
 *   - write_end stores the rows and frees everything;
 *   - its transaction or subtransaction fails: the rows are dropped with it;
 *   - its executor is shut down early without an error (a procedural language that asked for the
 *     first n rows of INSERT ... RETURNING): the rows are lost, and since somebody was told that they
 *     were inserted, the transaction must not commit. One pair of numbers remembers that.
 *
 * The list, and that pair, are the only state that outlives a call; both are empty between
 * transactions. Statements lie in the executor's memory, so the list is emptied before that goes.
 */
#include "write.h"

#include "common/pg_prng.h"
#include "utils/guc.h"
#include "utils/memutils.h"

static write_stmt *statements; /* innermost first */
/* Lost rows, and the outermost live subtransaction that lost any. Ancestors have smaller numbers, so
 * the smallest is the one whose abort makes it good. */
static uint64 lost_rows;
static SubTransactionId lost_subid = InvalidSubTransactionId;

static int write_memory_kb = 64 * 1024;

void
write_define_settings(void)
{
    DefineCustomIntVariable("promscale.write_memory",
                            "Memory for the samples of one INSERT or COPY; beyond it they are "
                            "stored in several goes.",
                            NULL, &write_memory_kb, 64 * 1024, 64, 4 * 1024 * 1024, PGC_USERSET,
                            GUC_UNIT_KB, NULL, NULL, NULL);
}

size_t
write_memory_bytes(void)
{
    return (size_t)write_memory_kb * 1024;
}

/* ---- the list ----------------------------------------------------------------------------- */

static void
unlist(write_stmt *s)
{
    for (write_stmt **p = &statements; *p != NULL; p = &(*p)->next) {
        if (*p == s) {
            *p = s->next;
            break;
        }
    }
    s->listed = false;
}

/* The statement's memory goes: whatever has not been stored by now never will be. Must not raise. */
static void
at_end_of_statement(void *arg)
{
    write_stmt *s = arg;

    if (!s->listed)
        return;
    unlist(s);
    if (s->n_points == 0)
        return;
    lost_rows += s->n_points;
    if (lost_subid == InvalidSubTransactionId || s->subid < lost_subid)
        lost_subid = s->subid;
}

write_stmt *
write_stmt_find(MemoryContext query, Oid view)
{
    for (write_stmt *s = statements; s != NULL; s = s->next) {
        if (s->query == query && s->view == view)
            return s;
    }
    return NULL;
}

write_stmt *
write_stmt_innermost(Oid view)
{
    for (write_stmt *s = statements; s != NULL; s = s->next) {
        if (s->view == view && s->subid == GetCurrentSubTransactionId())
            return s;
    }
    return NULL;
}

void
write_stmt_free(write_stmt *s)
{
    MemoryContextDelete(s->context);
}

/* ---- ends of transactions ----------------------------------------------------------------- */

static void
forget_everything(void)
{
    for (write_stmt *s = statements; s != NULL; s = s->next)
        s->listed = false;
    statements = NULL;
    lost_rows = 0;
    lost_subid = InvalidSubTransactionId;
}

static void
nothing_may_be_left(void)
{
    uint64 rows = lost_rows;

    for (const write_stmt *s = statements; s != NULL; s = s->next)
        rows += s->n_points;
    if (rows != 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg(UINT64_FORMAT " inserted samples have not been stored", rows),
                 errdetail("An INSERT into a view of schema prom_data was not run to its end."),
                 errhint("Do not limit the number of rows that INSERT ... RETURNING gives.")));
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        nothing_may_be_left();
        break;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE:
        forget_everything();
        break;
    default: /* parallel workers do not write */
        break;
    }
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
                         void *arg)
{
    if (event == SUBXACT_EVENT_COMMIT_SUB) {
        for (write_stmt *s = statements; s != NULL; s = s->next) {
            if (s->subid == subid)
                s->subid = parent;
        }
        if (lost_subid == subid)
            lost_subid = parent;
    } else if (event == SUBXACT_EVENT_ABORT_SUB) {
        for (write_stmt *s = statements, *next; s != NULL; s = next) {
            next = s->next;
            if (s->subid == subid)
                unlist(s);
        }
        if (lost_subid == subid) {
            lost_rows = 0;
            lost_subid = InvalidSubTransactionId;
        }
    }
}

static void
listen_once(void)
{
    static bool listening = false;

    if (!listening) {
        RegisterXactCallback(at_end_of_transaction, NULL);
        RegisterSubXactCallback(at_end_of_subtransaction, NULL);
        listening = true;
    }
}

/* ---- a new one ---------------------------------------------------------------------------- */

write_stmt *
write_stmt_new(MemoryContext query, Oid view, int32 metric_id)
{
    listen_once();
    MemoryContext context =
        AllocSetContextCreate(query, "promscale written rows", ALLOCSET_SMALL_SIZES);
    write_stmt *s = MemoryContextAllocZero(context, sizeof(*s));

    s->query = query;
    s->context = context;
    s->view = view;
    s->subid = GetCurrentSubTransactionId();
    s->metric_id = metric_id;
    s->oldest_ms = PG_INT64_MAX;
    s->overwrite = write_overwrites();
    s->seed = pg_prng_uint64(&pg_global_prng_state);
    s->at_end.func = at_end_of_statement;
    s->at_end.arg = s;
    MemoryContextRegisterResetCallback(context, &s->at_end);
    s->next = statements;
    statements = s;
    s->listed = true;
    return s;
}
