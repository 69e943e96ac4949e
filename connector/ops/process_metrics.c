/*
 * process_metrics.c - what every Prometheus client tells about its process, read from /proc when asked.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "connector/ops/ops.h"

/* Pages: size, resident, ... */
static double
statm_field(int field)
{
    unsigned long long v[2] = {0, 0};
    FILE *f = fopen("/proc/self/statm", "re");

    if (f == NULL)
        return 0;
    if (fscanf(f, "%llu %llu", &v[0], &v[1]) != 2)
        v[0] = v[1] = 0;
    fclose(f);
    return (double)v[field] * (double)sysconf(_SC_PAGESIZE);
}

static double
virtual_bytes(void *self)
{
    (void)self;
    return statm_field(0);
}

static double
resident_bytes(void *self)
{
    (void)self;
    return statm_field(1);
}

static double
cpu_seconds(void *self)
{
    struct rusage u;

    (void)self;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double
open_fds(void *self)
{
    double n = 0;
    DIR *d = opendir("/proc/self/fd");

    (void)self;
    if (d == NULL)
        return 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 3; /* ".", ".." and the folder itself */
}

static double
max_fds(void *self)
{
    struct rlimit lim;

    (void)self;
    return getrlimit(RLIMIT_NOFILE, &lim) == 0 ? (double)lim.rlim_cur : 0;
}

void
ops_register_process_metrics(connector *c)
{
    metrics *m = c->metrics;

    metric_set(metrics_gauge(m, "promscale_build_info", "Always 1; the version is in the label.",
                             "version=\"" PROMSCALE_VERSION "\""),
               1);
    metrics_counter_fn(m, "process_cpu_seconds_total", "CPU time used by the connector.", "",
                       cpu_seconds, NULL);
    metrics_gauge_fn(m, "process_resident_memory_bytes", "Resident memory of the connector.", "",
                     resident_bytes, NULL);
    metrics_gauge_fn(m, "process_virtual_memory_bytes", "Virtual memory of the connector.", "",
                     virtual_bytes, NULL);
    metrics_gauge_fn(m, "process_open_fds", "Open file descriptors.", "", open_fds, NULL);
    metrics_gauge_fn(m, "process_max_fds", "Limit of open file descriptors.", "", max_fds, NULL);
    metric_set(metrics_gauge(m, "process_start_time_seconds", "Start of the process, Unix time.",
                             ""),
               (double)c->started_ms / 1000.0);
}
