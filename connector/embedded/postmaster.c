/*
 * postmaster.c - the server process: found, started, watched, stopped.
 *
 * It has a session of its own, so that Ctrl-C reaches the connector only, and it outlives a connector
 * that is killed: the next one finds it by postmaster.pid (and by its working folder, since a pid
 * alone may long be someone else's). After the postmaster itself was killed its backends may live on
 * for a while and hold the shared memory: a new one is started only when they are gone; they are
 * asked to go, then made to. What they had not committed was never acknowledged.
 *
 * Watching is by pidfd where the kernel has it: it tells of a death once and for all, also of a process
 * that is not our child, with no pid to be reused.
 */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connector/embedded/internal.h"

enum {
    LEFTOVERS_MS = 60000,     /* processes of a killed postmaster */
    LEFTOVERS_ASK_MS = 2000,  /* then SIGQUIT */
    LEFTOVERS_KILL_MS = 8000, /* then SIGKILL */
    WAIT_TELL_MS = 5000,
    QUIT_MS = 15000
};

ps_status
emb_postmaster_init(emb_postmaster *p, const emb_folder *f, ps_err *err)
{
    *p = (emb_postmaster){.folder = f, .pidfd = -1};
    p->log_fd =
        openat(f->dir_fd, "pg.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (p->log_fd < 0 || !emb_give(p->log_fd, f))
        return ps_fail(err, PS_EUNAVAILABLE, "cannot write %s: %s", f->log_path, strerror(errno));
    return PS_OK;
}

static void
forget(emb_postmaster *p)
{
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->pidfd = -1;
    p->pid = 0;
    p->is_child = false;
}

void
emb_postmaster_done(emb_postmaster *p)
{
    forget(p);
    if (p->log_fd > 0)
        close(p->log_fd);
    p->log_fd = -1;
}

static void
watch(emb_postmaster *p, pid_t pid, bool is_child)
{
    p->pid = pid;
    p->is_child = is_child;
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0U);
    if (p->pidfd >= 0)
        fcntl(p->pidfd, F_SETFD, FD_CLOEXEC);
}

static pid_t
pid_in_file(const emb_folder *f)
{
    char text[512];
    if (emb_read_file(f->dir_fd, "pg/postmaster.pid", text, sizeof(text), NULL) != PS_OK)
        return 0;
    int pid = atoi(text);
    return pid > 1 ? (pid_t)pid : 0;
}

bool
emb_postmaster_find(emb_postmaster *p)
{
    pid_t pid = pid_in_file(p->folder);
    if (pid == 0 || emb_scan(&p->folder->user, p->folder->pg, pid, 0) != 1)
        return false;
    watch(p, pid, false);
    return true;
}

bool
emb_postmaster_alive(emb_postmaster *p)
{
    if (p->pid == 0)
        return false;
    bool dead;
    if (p->is_child) {
        int status;
        pid_t got = waitpid(p->pid, &status, WNOHANG);
        dead = got == p->pid || (got < 0 && errno == ECHILD);
    } else if (p->pidfd >= 0) {
        struct pollfd pfd = {.fd = p->pidfd, .events = POLLIN};
        dead = poll(&pfd, 1, 0) > 0;
    } else {
        dead = emb_scan(&p->folder->user, p->folder->pg, p->pid, 0) == 0;
    }
    if (dead)
        forget(p);
    return !dead;
}

/* ---- starting ---------------------------------------------------------------------------- */

static void
tell(emb_progress progress, void *self, const char *line)
{
    if (progress)
        progress(self, line);
}

static ps_status
wait_for_leftovers(emb_postmaster *p, emb_progress progress, void *self, ps_err *err)
{
    const emb_folder *f = p->folder;
    int64_t start = emb_now_ms();
    bool told = false;

    for (;;) {
        int64_t waited = emb_now_ms() - start;
        int signal_no = waited > LEFTOVERS_KILL_MS  ? SIGKILL
                        : waited > LEFTOVERS_ASK_MS ? SIGQUIT
                                                    : 0;
        int n = emb_scan(&f->user, f->pg, 0, signal_no);
        if (n <= 0)
            return PS_OK;
        if (!told && waited > 300) {
            tell(progress, self, "waiting for processes of a database server that was killed");
            told = true;
        }
        if (waited > LEFTOVERS_MS)
            return ps_fail(err, PS_EUNAVAILABLE,
                           "%d processes of an earlier database server in %s do not end", n,
                           f->dir);
        if (emb_interrupted())
            return ps_fail(err, PS_ECANCELED, "interrupted");
        emb_sleep_ms(waited < 1000 ? 20 : 200);
    }
}

/* The line of the server's log since `from` that says why it gave up. */
static void
reason_since(const emb_postmaster *p, off_t from, char *dst, size_t cap)
{
    static char text[8192]; /* one thread owns all this */
    const char *found = "no reason in its log";

    int fd = openat(p->folder->dir_fd, "pg.log", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > from) {
        if (st.st_size - from > (off_t)sizeof(text) - 1)
            from = st.st_size - ((off_t)sizeof(text) - 1);
        ssize_t n = pread(fd, text, sizeof(text) - 1, from);
        text[n > 0 ? n : 0] = '\0';
        char *fatal = NULL;
        const char *const words[] = {"PANIC:  ", "FATAL:  ", "error: ", "postgres: "};
        for (size_t i = 0; i < PS_ARRAY_LEN(words) && !fatal; i++) {
            fatal = strstr(text, words[i]);
            if (fatal && i < 2)
                fatal += strlen(words[i]);
        }
        if (fatal) {
            fatal[strcspn(fatal, "\n")] = '\0';
            found = fatal;
        }
    }
    if (fd >= 0)
        close(fd);
    snprintf(dst, cap, "%s", found);
}

static ps_status
start_once(emb_postmaster *p, const char *bin_dir, const char *socket_dir, ps_err *err)
{
    char program[EMB_PATH_MAX + 32];
    char port[16];
    pid_t pid = 0;

    snprintf(program, sizeof(program), "%s/postgres", bin_dir);
    snprintf(port, sizeof(port), "%d", (int)EMB_PORT);
    /* Where it listens stands on the command line: no file of the user's can change it under us. */
    const char *const argv[] = {program, "-D", p->folder->pg, "-k", socket_dir, "-p", port, NULL};
    emb_command c = {.user = &p->folder->user,
                     .argv = argv,
                     .cwd = p->folder->pg,
                     .out_fd = p->log_fd,
                     .own_session = true};
    PS_TRY(emb_spawn(&c, &pid, err));
    watch(p, pid, true);
    return PS_OK;
}

ps_status
emb_postmaster_wait(emb_postmaster *p, const char *socket_dir, emb_progress progress, void *self,
                    ps_err *err)
{
    char conninfo[256];
    int64_t start = emb_now_ms();
    int64_t told = start;

    snprintf(conninfo, sizeof(conninfo),
             "host=%s port=%d user=%s dbname=postgres connect_timeout=10", socket_dir,
             (int)EMB_PORT, EMB_ROLE);
    for (;;) {
        /* Recovery after a crash takes what it takes: there is no time-out while the server lives. */
        if (!emb_postmaster_alive(p))
            return ps_fail(err, PS_EUNAVAILABLE, "the database server ended");
        if (PQping(conninfo) == PQPING_OK)
            return PS_OK;
        if (emb_interrupted())
            return ps_fail(err, PS_ECANCELED, "interrupted");
        int64_t now = emb_now_ms();
        if (now - told > WAIT_TELL_MS) {
            tell(progress, self,
                 "the database is still starting (after a crash it replays its log first)");
            told = now;
        }
        emb_sleep_ms(now - start < 2000 ? 10 : 100);
    }
}

ps_status
emb_postmaster_start(emb_postmaster *p, const char *bin_dir, const char *socket_dir,
                     emb_progress progress, void *self, ps_err *err)
{
    int64_t deadline = emb_now_ms() + LEFTOVERS_MS;
    char reason[160];

    for (;;) {
        PS_TRY(wait_for_leftovers(p, progress, self, err));
        emb_log_bound(p);
        off_t log_start = lseek(p->log_fd, 0, SEEK_END);
        PS_TRY(start_once(p, bin_dir, socket_dir, err));
        ps_status st = emb_postmaster_wait(p, socket_dir, progress, self, err);
        if (st == PS_OK)
            return PS_OK;
        if (st != PS_EUNAVAILABLE) {
            if (emb_postmaster_stop(p, 10000, NULL) != PS_OK)
                ps_fail(err, st, "interrupted, and the database server does not stop");
            return st;
        }
        reason_since(p, log_start, reason, sizeof(reason));
        /* Where /proc cannot be read the leftovers show only like this. */
        bool leftovers = strstr(reason, "shared memory block") || strstr(reason, "already exists");
        if (!leftovers || emb_now_ms() > deadline)
            return ps_fail(err, PS_EUNAVAILABLE,
                           "PostgreSQL does not start: %s (more in pg.log in the data folder)",
                           reason);
        emb_sleep_ms(500);
    }
}

/* ---- stopping ---------------------------------------------------------------------------- */

static bool
ends_within(emb_postmaster *p, int64_t ms)
{
    int64_t deadline = emb_now_ms() + ms;
    while (emb_postmaster_alive(p)) {
        if (emb_now_ms() >= deadline)
            return false;
        emb_sleep_ms(10);
    }
    return true;
}

static void
signal_it(const emb_postmaster *p, int signal_no)
{
    if (p->pidfd < 0 || syscall(SYS_pidfd_send_signal, p->pidfd, signal_no, NULL, 0U) != 0)
        kill(p->pid, signal_no);
}

ps_status
emb_postmaster_stop(emb_postmaster *p, int64_t timeout_ms, ps_err *err)
{
    if (!emb_postmaster_alive(p))
        return PS_OK;
    signal_it(p, SIGINT);
    if (ends_within(p, timeout_ms))
        return PS_OK;
    signal_it(p, SIGQUIT);
    if (ends_within(p, QUIT_MS))
        return PS_OK;
    return ps_fail(err, PS_ETIMEOUT, "PostgreSQL (process %d) does not stop", (int)p->pid);
}

/* Copy and truncate: the server holds the file open in append mode, so nothing else has to know. */
void
emb_log_bound(emb_postmaster *p)
{
    struct stat st;
    char chunk[16384];
    const emb_folder *f = p->folder;

    if (fstat(p->log_fd, &st) != 0 || st.st_size <= EMB_LOG_MAX)
        return;
    int in = openat(f->dir_fd, "pg.log", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    unlinkat(f->dir_fd, "pg.log.1", 0);
    int out =
        openat(f->dir_fd, "pg.log.1", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (in >= 0 && out >= 0) {
        /* from near its end: a burst may have made it much longer than the limit */
        off_t at = st.st_size > 2 * (off_t)EMB_LOG_MAX ? st.st_size - EMB_LOG_MAX : 0;
        ssize_t n;
        while ((n = pread(in, chunk, sizeof(chunk), at)) > 0 && write(out, chunk, (size_t)n) == n)
            at += n;
        if (!emb_give(out, f))
            unlinkat(f->dir_fd, "pg.log.1", 0);
    }
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    if (ftruncate(p->log_fd, 0) != 0)
        return; /* tried again at the next look */
}
