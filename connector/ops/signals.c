/*
 * signals.c - see signals.h. Waiting instead of handlers: nothing runs at a moment that nobody chose.
 */
#include "connector/ops/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

/* SIGHUP comes from a closing terminal. A blocked signal is kept even if ignored, so it is asked first. */
static void
stop_signals(sigset_t *set)
{
    struct sigaction hup;

    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    if (sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler == SIG_DFL)
        sigaddset(set, SIGHUP);
}

void
signals_block(void)
{
    sigset_t set;

    stop_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int
signals_wait(int64_t timeout_ms)
{
    struct timespec t = {.tv_sec = timeout_ms / 1000, .tv_nsec = (timeout_ms % 1000) * 1000000};
    sigset_t set;

    stop_signals(&set);
    int got = sigtimedwait(&set, NULL, &t);
    return got > 0 ? got : 0;
}
