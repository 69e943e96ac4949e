/*
 * process.c - children: spawned without a shell, with nothing of ours open, and as the unprivileged
 * user when we are root.
 *
 * The child calls the kernel directly for its user and groups: glibc's setuid tells the other threads,
 * which a forked child does not have.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "connector/embedded/internal.h"

int64_t
emb_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void
emb_sleep_ms(int64_t ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

bool
emb_interrupted(void)
{
    sigset_t pending;
    if (sigpending(&pending) != 0)
        return false;
    return sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1 ||
           sigismember(&pending, SIGHUP) == 1;
}

void
emb_expect_children(void)
{
    struct sigaction now;
    if (sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
        signal(SIGCHLD, SIG_DFL);
}

/* In the child. Root's extra groups go first, then the group, then the user: never back. */
static bool
become(const emb_user *user)
{
    if (!user->drop)
        return true;
    if (syscall(SYS_setgroups, 1, &user->gid) != 0 ||
        syscall(SYS_setresgid, user->gid, user->gid, user->gid) != 0 ||
        syscall(SYS_setresuid, user->uid, user->uid, user->uid) != 0)
        return false;
    return geteuid() == user->uid;
}

static void
reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int i = 1; i < NSIG; i++) /* fails for KILL, STOP and the C library's own: fine */
        signal(i, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void
close_above_stderr(void)
{
    if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
        return;
    for (int fd = 3; fd < 65536; fd++)
        close(fd);
}

ps_status
emb_spawn(const emb_command *c, pid_t *ret, ps_err *err)
{
    /* Nothing of our environment: no PG*, no locale, no LD_PRELOAD reaches the server. */
    static const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/", NULL};
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours runs in the child */
    pid_t pid = fork();
    if (pid == 0) {
        reset_signals();
        int null_fd = open("/dev/null", O_RDONLY);
        if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(c->out_fd, 1) < 0 || dup2(c->out_fd, 2) < 0)
            _exit(126);
        close_above_stderr();
        if (c->own_session)
            setsid();
        umask(077);
        if (!become(c->user) || chdir(c->cwd[0] ? c->cwd : "/") != 0)
            _exit(126);
        if (c->dies_with_us) /* after the change of user, which resets it */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        execve(c->argv[0], (char *const *)c->argv, (char *const *)env);
        _exit(127);
    }
    int fork_errno = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot start %s: %s", c->argv[0],
                       strerror(fork_errno));
    *ret = pid;
    return PS_OK;
}

static int
wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return 125;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

ps_status
emb_run(const emb_user *user, const char *const *argv, char *tail, size_t tail_cap,
        int *ret_exit_code, ps_err *err)
{
    int fds[2];
    pid_t pid = 0;
    size_t len = 0;

    if (pipe2(fds, O_CLOEXEC) != 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot make a pipe: %s", strerror(errno));
    emb_command c = {.user = user, .argv = argv, .cwd = "", .out_fd = fds[1], .dies_with_us = true};
    ps_status st = emb_spawn(&c, &pid, err);
    close(fds[1]);
    if (st != PS_OK) {
        close(fds[0]);
        return st;
    }
    for (;;) {
        char chunk[512];
        ssize_t n = read(fds[0], chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        size_t keep = tail_cap - 1;
        size_t add = (size_t)n < keep ? (size_t)n : keep;
        size_t old = len + add > keep ? keep - add : len;
        memmove(tail, tail + (len - old), old);
        memcpy(tail + old, chunk + ((size_t)n - add), add);
        len = old + add;
    }
    close(fds[0]);
    tail[len] = '\0';
    *ret_exit_code = wait_for(pid);
    return PS_OK;
}

/* Runs fn with the rights of `user`, in a child; its result (0..100) or -1. */
static int
as_user(const emb_user *user, int (*fn)(void *arg), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0) {
        reset_signals();
        if (!become(user))
            _exit(126);
        int result = fn(arg);
        _exit(result < 0 ? 126 : result > 100 ? 100 : result);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return -1;
    int code = wait_for(pid);
    return code <= 100 ? code : -1;
}

static int
enter_fn(void *arg)
{
    return chdir(arg) == 0 ? 1 : 0;
}

bool
emb_can_enter(const emb_user *user, const char *folder)
{
    return as_user(user, enter_fn, (void *)folder) == 1;
}

static int
write_fn(void *arg)
{
    return access(arg, W_OK | X_OK) == 0 ? 1 : 0;
}

bool
emb_can_write(const emb_user *user, const char *folder)
{
    return as_user(user, write_fn, (void *)folder) == 1;
}

typedef struct scan_args {
    const char *folder;
    pid_t only_pid;
    int signal_no;
} scan_args;

static int
scan_fn(void *arg)
{
    const scan_args *a = arg;
    struct stat want, have;
    char path[64];
    int found = 0;

    if (stat(a->folder, &want) != 0)
        return 0;
    DIR *proc = opendir("/proc");
    if (!proc)
        return -1;
    const struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (*end != '\0' || pid <= 1 || pid == getpid() || (a->only_pid != 0 && pid != a->only_pid))
            continue;
        snprintf(path, sizeof(path), "/proc/%ld/cwd", pid);
        if (stat(path, &have) != 0 || have.st_dev != want.st_dev || have.st_ino != want.st_ino)
            continue;
        /* A shell that merely stands in the folder is not ours to count. */
        char exe[EMB_PATH_MAX];
        snprintf(path, sizeof(path), "/proc/%ld/exe", pid);
        ssize_t n = readlink(path, exe, sizeof(exe) - 1);
        if (n <= 0)
            continue;
        exe[n] = '\0';
        const char *base = strrchr(exe, '/');
        if (!base || strncmp(base, "/postgres", 9) != 0)
            continue;
        found++;
        if (a->signal_no != 0)
            kill((pid_t)pid, a->signal_no);
    }
    closedir(proc);
    return found;
}

/* As that user and not as root: in containers root may not look into other users' processes. */
int
emb_scan(const emb_user *user, const char *folder, pid_t only_pid, int signal_no)
{
    scan_args a = {.folder = folder, .only_pid = only_pid, .signal_no = signal_no};
    return as_user(user, scan_fn, &a);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    return (type == FTW_DP ? rmdir(path) : unlink(path)) == 0 || errno == ENOENT ? 0 : errno;
}

static int
remove_fn(void *arg)
{
    /* The folder itself may stand in one that is not the user's: the caller removes it then. */
    nftw(arg, remove_entry, 16, FTW_PHYS | FTW_DEPTH | FTW_MOUNT);
    return 0;
}

ps_status
emb_remove_tree(const emb_user *user, const char *path, ps_err *err)
{
    as_user(user, remove_fn, (void *)path);
    if (rmdir(path) != 0 && errno != ENOENT)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot remove %s: %s", path, strerror(errno));
    return PS_OK;
}
