/*
 * time.c - days of Unix time in milliseconds, and windows that are a third of one.
 */
#include "lib/model/model.h"

int64_t
mdl_day_start_ms(int64_t t_ms)
{
    int64_t into = t_ms % MDL_DAY_MS;
    if (into < 0)
        into += MDL_DAY_MS;
    /* The day that holds INT64_MIN begins before it; no valid time comes near. */
    return t_ms < INT64_MIN + into ? INT64_MIN : t_ms - into;
}

int64_t
mdl_window_start_ms(int64_t t_ms)
{
    int64_t day = mdl_day_start_ms(t_ms);
    return day == INT64_MIN ? day : day + (t_ms - day) / MDL_WINDOW_MS * MDL_WINDOW_MS;
}
