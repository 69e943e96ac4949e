/*
 * as_admin.c - _prom_ext.run_as_prom_admin(): commands that make objects of prom_admin's.
 *
 * Views belong to prom_admin, whoever has them made. What is made as somebody else and handed over leaves
 * dead rows in pg_class, pg_type and pg_shdepend: with tens of thousands of metrics, gigabytes of writes.
 * So the commands run as the role itself, with the default rights that its objects have (090-rights.sql),
 * and every row is written once. SET ROLE is no way to it: a function that runs as its owner may not.
 *
 * An error needs no care here: the (sub)transaction that ends gives the caller his name back. The function
 * runs whatever it is told, so nobody is granted it.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(run_as_prom_admin);

Datum
run_as_prom_admin(PG_FUNCTION_ARGS)
{
    const char *commands = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const Oid role = get_role_oid("prom_admin", false);
    Oid caller;
    int context;

    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "could not connect to SPI");
    GetUserIdAndSecContext(&caller, &context);
    SetUserIdAndSecContext(role, context | SECURITY_LOCAL_USERID_CHANGE);
    const int rc = SPI_execute(commands, false, 0);
    SetUserIdAndSecContext(caller, context);
    if (rc < 0)
        elog(ERROR, "commands of prom_admin failed: %s", SPI_result_code_string(rc));
    SPI_finish();
    PG_RETURN_VOID();
}
