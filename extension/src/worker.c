/*
 * worker.c - the maintenance worker: two kinds of process.
 *
 * The launcher lives as long as the server (from the end of recovery on, so never on a standby). It is
 * connected to no database; every maintenance_interval it looks whether the database of
 * promscale.database exists and starts a round in it, one at a time.
 *
 * That is a process that connects, leaves at once if the extension is not installed, does one round
 * of what is due by CALL prom_api.execute_maintenance(), waits 100 ms and runs the VACUUMs that are due.
 * To start it and to compile what the steps are written in costs more than a round with little to do, so
 * it does rounds for a minute as long as clients are connected to the database; half a second after the
 * last of them has left, it leaves too. So it never stands in the way of a DROP DATABASE that could
 * succeed without it, and nothing leaks for long. All decisions (what is due, what failed and may be
 * tried when) are in SQL, the same that a connector calls where no worker runs.
 *
 * Statements are run like those of a client, by portals outside a transaction block: both the
 * procedure, which commits, and VACUUM need that.
 */
#include "postgres.h"

#include "worker.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define WORKER_TYPE "promscale maintenance"

enum {
    RESTART_SECONDS = 5,
    VACUUM_DELAY_MS = 100,
    LOG_AGAIN_MS = 10 * 60 * 1000,
    STAY_MS = 60 * 1000, /* how long one process does rounds */
    LOOK_EVERY_MS = 500  /* ... and looks whether it should go between them */
};

static char *worker_database;
static bool worker_enabled;
static int worker_interval_ms;

PGDLLEXPORT void worker_launcher_main(Datum unused);
PGDLLEXPORT void worker_round_main(Datum unused);

/* ---- settings and registration ----------------------------------------------------------- */

void
worker_define_settings(void)
{
    DefineCustomStringVariable("promscale.database",
                               "Database that the maintenance worker cares for.", NULL,
                               &worker_database, "promscale", PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("promscale.maintenance", "Whether the maintenance worker works.", NULL,
                             &worker_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("promscale.maintenance_interval",
                            "Time from the start of one round of maintenance to the next.", NULL,
                            &worker_interval_ms, 5000, 100, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS,
                            NULL, NULL, NULL);
}

static void
describe_worker(BackgroundWorker *w, const char *function)
{
    memset(w, 0, sizeof(*w));
    w->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    w->bgw_start_time = BgWorkerStart_RecoveryFinished;
    snprintf(w->bgw_library_name, sizeof(w->bgw_library_name), "promscale");
    snprintf(w->bgw_function_name, sizeof(w->bgw_function_name), "%s", function);
    snprintf(w->bgw_type, sizeof(w->bgw_type), "%s", WORKER_TYPE);
}

void
worker_register_launcher(void)
{
    BackgroundWorker w;

    describe_worker(&w, "worker_launcher_main");
    snprintf(w.bgw_name, sizeof(w.bgw_name), WORKER_TYPE " launcher");
    w.bgw_restart_time = RESTART_SECONDS;
    RegisterBackgroundWorker(&w);
}

/* ---- the launcher ------------------------------------------------------------------------ */

/* By a scan of the shared catalog: without a database there are no caches and no indexes. */
static bool
database_exists(const char *name)
{
    bool found = false;
    HeapTuple tuple;

    StartTransactionCommand();
    (void)GetTransactionSnapshot();
    Relation databases = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(databases, 0, NULL);
    while (!found && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL) {
        Form_pg_database form = (Form_pg_database)GETSTRUCT(tuple);
        found = strcmp(NameStr(form->datname), name) == 0 && form->datallowconn;
    }
    table_endscan(scan);
    table_close(databases, AccessShareLock);
    CommitTransactionCommand();
    return found;
}

/* Starts a round and waits for its end. False if there was no process slot for it. */
static bool
run_round(void)
{
    BackgroundWorker w;
    BackgroundWorkerHandle *handle;
    pid_t pid;

    describe_worker(&w, "worker_round_main");
    snprintf(w.bgw_name, sizeof(w.bgw_name), WORKER_TYPE " of %.60s", worker_database);
    w.bgw_restart_time = BGW_NEVER_RESTART;
    w.bgw_notify_pid = MyProcPid;
    if (!RegisterDynamicBackgroundWorker(&w, &handle))
        return false;
    if (WaitForBackgroundWorkerStartup(handle, &pid) == BGWH_STARTED)
        (void)WaitForBackgroundWorkerShutdown(handle);
    pfree(handle);
    return true;
}

static void
wait_ms(long ms)
{
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
                    PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (ConfigReloadPending) {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

void
worker_launcher_main(Datum unused)
{
    TimestampTz started, warned = 0;
    MemoryContext context;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(NULL, NULL, 0);
    pgstat_report_appname(WORKER_TYPE);
    context = AllocSetContextCreate(TopMemoryContext, WORKER_TYPE, ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(context);
    /* the first round comes soon, but not before the server is up */
    started =
        GetCurrentTimestamp() - 1000 * (int64)(worker_interval_ms - Min(worker_interval_ms, 1000));
    for (;;) {
        const TimestampTz now = GetCurrentTimestamp();

        started = Min(started, now); /* a clock that was ahead */
        const int64 left_ms = worker_interval_ms - (now - started) / 1000;
        if (left_ms > 0) {
            wait_ms((long)Min(left_ms, worker_interval_ms));
            continue;
        }
        started = now;
        if (worker_enabled && worker_database[0] != '\0' && database_exists(worker_database) &&
            !run_round() && TimestampDifferenceExceeds(warned, started, LOG_AGAIN_MS)) {
            warned = started;
            ereport(WARNING, (errmsg("promscale maintenance finds no free background worker"),
                              errhint("Raise max_worker_processes.")));
        }
        MemoryContextSwitchTo(context);
        MemoryContextReset(context);
    }
}

/* ---- one round --------------------------------------------------------------------------- */

/* Runs one statement as if a client had sent it by itself. Results are thrown away. */
static void
run_statement(const char *sql)
{
    MemoryContext context =
        AllocSetContextCreate(TopMemoryContext, "promscale statement", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    QueryCompletion qc;

    debug_query_string = sql;
    pgstat_report_activity(STATE_RUNNING, sql);
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    MemoryContextSwitchTo(context);
    RawStmt *parsed = linitial_node(RawStmt, pg_parse_query(sql));
    CommandTag tag = CreateCommandTag(parsed->stmt);
    PushActiveSnapshot(GetTransactionSnapshot());
    List *queries = pg_analyze_and_rewrite_fixedparams(parsed, sql, NULL, 0, NULL);
    List *plans = pg_plan_queries(queries, sql, CURSOR_OPT_PARALLEL_OK, NULL);
    PopActiveSnapshot();

    Portal portal = CreatePortal("", true, true);
    portal->visible = false;
    PortalDefineQuery(portal, NULL, sql, tag, plans, NULL);
    PortalStart(portal, NULL, 0, InvalidSnapshot);
    DestReceiver *receiver = CreateDestReceiver(DestNone);
    InitializeQueryCompletion(&qc);
    (void)compat_portal_run(portal, FETCH_ALL, true, receiver, receiver, &qc);
    receiver->rDestroy(receiver);
    PortalDrop(portal, false);
    CommitTransactionCommand();
    pgstat_report_stat(true);
    pgstat_report_activity(STATE_IDLE, NULL);
    debug_query_string = NULL;
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
}

/* Is the extension here, in a version that has maintenance? */
static bool
extension_is_there(void)
{
    bool isnull;

    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    SPI_connect();
    PushActiveSnapshot(GetTransactionSnapshot());
    if (SPI_execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'promscale') AND "
                    "to_regprocedure('prom_api.execute_maintenance(bool, bool)') IS NOT NULL",
                    true, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not look for the extension");
    bool found =
        DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_finish();
    PopActiveSnapshot();
    CommitTransactionCommand();
    return found;
}

/* The VACUUM commands that are due, in `context`. */
static List *
take_vacuums(MemoryContext context)
{
    List *commands = NIL;

    /* VACUUM marks nothing as visible or frozen whose commit is not on disk yet */
    SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    SPI_connect();
    PushActiveSnapshot(GetTransactionSnapshot());
    if (SPI_execute("SELECT _prom_catalog.take_vacuums()", false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read which tables want a vacuum");
    for (uint64 i = 0; i < SPI_processed; i++) {
        char *text = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
        MemoryContext old = MemoryContextSwitchTo(context);
        commands = lappend(commands, pstrdup(text));
        MemoryContextSwitchTo(old);
    }
    SPI_finish();
    PopActiveSnapshot();
    CommitTransactionCommand();
    return commands;
}

static void
vacuum_all(MemoryContext context)
{
    List *commands = take_vacuums(context);
    ListCell *cell;

    if (commands == NIL)
        return;
    pgstat_report_appname(WORKER_TYPE ": vacuum");
    wait_ms(VACUUM_DELAY_MS);
    foreach (cell, commands)
        run_statement(lfirst(cell));
    pgstat_report_appname(WORKER_TYPE);
}

static void
round_settings(void)
{
    /* what maintenance does is repeated after a crash: no reason to wait for the disk */
    SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("default_transaction_isolation", "read committed", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_SESSION);
    SetConfigOption("jit", "off", PGC_USERSET, PGC_S_SESSION);
    SetConfigOption("application_name", WORKER_TYPE, PGC_USERSET, PGC_S_SESSION);
}

/* A fold gets and frees the same megabytes for bucket after bucket; the kernel would clear them each
 * time. The process ends within a minute or so. */
static void
keep_memory(void)
{
#ifdef M_TRIM_THRESHOLD
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

/* Waits until the next round is due that began at `started`. False: it is another process's. */
static bool
stay(TimestampTz begun, TimestampTz started, const char *database)
{
    for (;;) {
        const TimestampTz now = GetCurrentTimestamp();
        const int64 left_ms = worker_interval_ms - (now - started) / 1000;

        if (now < started || !worker_enabled || strcmp(worker_database, database) != 0 ||
            CountDBConnections(MyDatabaseId) == 0 ||
            TimestampDifferenceExceeds(begun, now + Max(left_ms, 0) * 1000, STAY_MS))
            return false;
        if (left_ms <= 0)
            return true;
        wait_ms((long)Min(left_ms, LOOK_EVERY_MS));
    }
}

void
worker_round_main(Datum unused)
{
    const TimestampTz begun = GetCurrentTimestamp();
    TimestampTz started;
    MemoryContext context;
    char *database;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    keep_memory();
    database = MemoryContextStrdup(TopMemoryContext, worker_database);
    BackgroundWorkerInitializeConnection(database, NULL, 0);
    context = AllocSetContextCreate(TopMemoryContext, WORKER_TYPE, ALLOCSET_DEFAULT_SIZES);
    do {
        started = GetCurrentTimestamp();
        MemoryContextSwitchTo(context);
        round_settings();
        if (!extension_is_there())
            break;
        run_statement("CALL prom_api.execute_maintenance()");
        vacuum_all(context);
        MemoryContextReset(context);
    } while (stay(begun, started, database));
    proc_exit(0);
}
