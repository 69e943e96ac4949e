/*
 * special_values.c - the two NaNs that mean something: is_stale_marker(), is_normal_nan().
 *
 * Prometheus writes a NaN with bits of its own where a series has ended, and another one for "not a
 * number". To SQL all NaNs are equal, so they are told apart by their bits here.
 */
#include "postgres.h"

#include "fmgr.h"

static uint64
bits_of(float8 value)
{
    uint64 bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

PG_FUNCTION_INFO_V1(special_stale_marker);
Datum
special_stale_marker(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(bits_of(PG_GETARG_FLOAT8(0)) == UINT64CONST(0x7ff0000000000002));
}

PG_FUNCTION_INFO_V1(special_normal_nan);
Datum
special_normal_nan(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(bits_of(PG_GETARG_FLOAT8(0)) == UINT64CONST(0x7ff8000000000001));
}
