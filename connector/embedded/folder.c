/*
 * folder.c - the data folder: which one, whose, locked, and the small files in it.
 *
 * As root the server cannot be root. It runs as the owner of the data if there is some already, else
 * as user "postgres". If that user cannot enter the folder asked for (a clone below /root), the data
 * live in /var/lib/promscale/<name made from the path> instead: the same name each time, so that the
 * next start finds them; data that are there win, so that a later chmod does not make them vanish.
 *
 * The folder may belong to someone else than us: files are opened relative to its descriptor, links
 * are not followed, and new files are given to its owner.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connector/embedded/internal.h"

#define LAYOUT "promscale-data 1\n"
#define FALLBACK_ROOT "/var/lib/promscale"

ps_status
emb_path(char *dst, size_t cap, const char *folder, const char *name, ps_err *err)
{
    int n = snprintf(dst, cap, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= cap)
        return ps_fail(err, PS_ELIMIT, "path of the data folder is too long");
    return PS_OK;
}

static ps_status
set_user(emb_user *user, uid_t uid, ps_err *err)
{
    const struct passwd *pw = getpwuid(uid);
    if (!pw)
        return ps_fail(err, PS_EINVAL, "no user with id %u on this machine; PostgreSQL needs one",
                       (unsigned)uid);
    *user = (emb_user){.uid = uid, .gid = pw->pw_gid, .drop = geteuid() == 0 && uid != 0};
    snprintf(user->name, sizeof(user->name), "%s", pw->pw_name);
    return PS_OK;
}

/* data_owner: of existing data, or root if there are none. */
static ps_status
choose_user(emb_user *user, uid_t data_owner, ps_err *err)
{
    if (geteuid() != 0)
        return set_user(user, geteuid(), err);
    if (data_owner != 0)
        return set_user(user, data_owner, err);
    const struct passwd *pw = getpwnam("postgres");
    if (!pw || pw->pw_uid == 0)
        return ps_fail(
            err, PS_EINVAL,
            "PostgreSQL does not run as root and there is no user postgres: make one with "
            "\"useradd --system postgres\", or start promscale as another user");
    return set_user(user, pw->pw_uid, err);
}

/* Absolute, links resolved; the last part may be missing. */
static ps_status
absolute(const char *wanted, char *dst, ps_err *err)
{
    char buf[PATH_MAX];
    char resolved[PATH_MAX];

    if (realpath(wanted, resolved)) {
        if (strlen(resolved) >= EMB_PATH_MAX - 64)
            return ps_fail(err, PS_ELIMIT, "path of the data folder is too long");
        memcpy(dst, resolved, strlen(resolved) + 1);
        return PS_OK;
    }
    if (errno != ENOENT)
        return ps_fail(err, PS_EINVAL, "data folder %s: %s", wanted, strerror(errno));
    size_t len = strlen(wanted);
    while (len > 1 && wanted[len - 1] == '/')
        len--;
    if (len >= sizeof(buf))
        return ps_fail(err, PS_ELIMIT, "path of the data folder is too long");
    memcpy(buf, wanted, len);
    buf[len] = '\0';
    char *slash = strrchr(buf, '/');
    const char *base = slash ? slash + 1 : buf;
    const char *parent = !slash ? "." : slash == buf ? "/" : buf;
    char name[256];
    int n = snprintf(name, sizeof(name), "%s", base);
    if (n <= 0 || (size_t)n >= sizeof(name) || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return ps_fail(err, PS_EINVAL, "data folder %s: not a usable name", wanted);
    if (slash && slash != buf)
        *slash = '\0';
    if (!realpath(parent, resolved))
        return ps_fail(err, PS_EINVAL, "data folder %s: its parent folder %s: %s", wanted, parent,
                       strerror(errno));
    return emb_path(dst, EMB_PATH_MAX - 64, strcmp(resolved, "/") == 0 ? "" : resolved, name, err);
}

/* "/root/x/promscale-data" -> "/var/lib/promscale/root-x-promscale-data-1f2e3d4c": readable, and the
 * hash keeps /a-b/c and /a/b-c apart. */
static void
fallback_for(const char *dir, char *dst)
{
    char name[80];
    size_t len = strlen(dir + 1);
    const char *from = dir + 1 + (len > 60 ? len - 60 : 0);
    size_t n = 0;
    for (; *from; from++) {
        char c = *from;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '_' || c == '.';
        name[n++] = plain ? c : '-';
    }
    name[n] = '\0';
    snprintf(dst, EMB_PATH_MAX, FALLBACK_ROOT "/%s-%08x", name,
             (unsigned)ps_hash64(ps_str_c(dir), 0));
}

static bool
is_ours(const char *dir)
{
    char path[EMB_PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/VERSION", dir);
    return access(path, F_OK) == 0;
}

/* Owner of the PostgreSQL data in dir, 0 if there are none. */
static uid_t
data_owner_of(const char *dir)
{
    char path[EMB_PATH_MAX + 32];
    struct stat st;
    snprintf(path, sizeof(path), "%s/pg", dir);
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) ? st.st_uid : 0;
}

static bool
can_enter_or_make(const emb_user *user, const char *dir)
{
    char parent[EMB_PATH_MAX];
    struct stat st;
    if (stat(dir, &st) == 0)
        return emb_can_enter(user, dir);
    snprintf(parent, sizeof(parent), "%s", dir);
    char *slash = strrchr(parent, '/');
    slash[slash == parent ? 1 : 0] = '\0';
    return emb_can_enter(user, parent);
}

static ps_status
fill_paths(emb_folder *f, const char *dir, ps_err *err)
{
    memmove(f->dir, dir, strlen(dir) + 1);
    f->exists = is_ours(dir);
    PS_TRY(emb_path(f->pg, sizeof(f->pg), dir, "pg", err));
    return emb_path(f->log_path, sizeof(f->log_path), dir, "pg.log", err);
}

ps_status
emb_folder_find(const char *wanted, emb_folder *ret, ps_err *err)
{
    char dir[EMB_PATH_MAX];
    char other[EMB_PATH_MAX];

    struct stat st;

    *ret = (emb_folder){.dir_fd = -1, .lock_fd = -1};
    PS_TRY(absolute(wanted, dir, err));
    if (stat(dir, &st) == 0 && !S_ISDIR(st.st_mode))
        return ps_fail(err, PS_EINVAL, "data folder %s is not a folder", dir);
    PS_TRY(choose_user(&ret->user, data_owner_of(dir), err));
    if (!ret->user.drop)
        return fill_paths(ret, dir, err);
    bool reachable = can_enter_or_make(&ret->user, dir);
    if (is_ours(dir)) {
        if (!reachable)
            return ps_fail(
                err, PS_EINVAL,
                "data folder %s: user %s, who runs PostgreSQL, cannot enter it; allow it with chmod o+x on "
                "the folders above, or move the data",
                dir, ret->user.name);
        return fill_paths(ret, dir, err);
    }
    fallback_for(dir, other);
    if (reachable && !is_ours(other))
        return fill_paths(ret, dir, err);
    ret->moved = true;
    PS_TRY(choose_user(&ret->user, data_owner_of(other), err));
    return fill_paths(ret, other, err);
}

/* ---- opening ----------------------------------------------------------------------------- */

static ps_status
make_folder(const emb_folder *f, ps_err *err)
{
    if (f->moved && mkdir(FALLBACK_ROOT, 0755) != 0 && errno != EEXIST)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot make %s: %s", FALLBACK_ROOT, strerror(errno));
    if (mkdir(f->dir, 0755) == 0)
        return chmod(f->dir, 0755) == 0
                   ? PS_OK
                   : ps_fail(err, PS_EUNAVAILABLE, "%s: %s", f->dir, strerror(errno));
    if (errno == EEXIST)
        return PS_OK;
    return ps_fail(err, PS_EUNAVAILABLE, "cannot make the data folder %s: %s", f->dir,
                   strerror(errno));
}

bool
emb_give(int fd, const emb_folder *f)
{
    struct stat st;

    if (geteuid() != 0)
        return true;
    if (fstat(fd, &st) != 0)
        return false;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1) {
        errno = EMLINK;
        return false;
    }
    return fchown(fd, f->owner_uid, f->owner_gid) == 0;
}

static ps_status
lock_folder(emb_folder *f, ps_err *err)
{
    char text[32] = "";

    int fd = openat(f->dir_fd, "run.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot write in the data folder %s as user id %u: %s",
                       f->dir, (unsigned)geteuid(), strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = errno == EWOULDBLOCK ? pread(fd, text, sizeof(text) - 1, 0) : 0;
        close(fd);
        text[n > 0 ? n : 0] = '\0';
        return ps_fail(
            err, PS_ECONFLICT,
            "data folder %s is in use by another promscale (process %d): stop it, or choose "
            "another folder with --data-dir",
            f->dir, atoi(text));
    }
    f->lock_fd = fd;
    int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (!emb_give(fd, f) || ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot write %s/run.lock: %s", f->dir,
                       strerror(errno));
    return PS_OK;
}

/* A folder without VERSION is taken only if nothing stands in it. */
static ps_status
check_empty(const emb_folder *f, ps_err *err)
{
    const struct dirent *entry;
    int fd = openat(f->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        if (fd >= 0)
            close(fd);
        return ps_fail(err, PS_EUNAVAILABLE, "cannot read the data folder %s: %s", f->dir,
                       strerror(errno));
    }
    ps_status st = PS_OK;
    while (st == PS_OK && (entry = readdir(d)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "run.lock") == 0 ||
            strcmp(name, "lost+found") == 0 || strcmp(name, "VERSION.tmp") == 0)
            continue;
        st = ps_fail(
            err, PS_EINVAL,
            "data folder %s is not empty (\"%.60s\") and not a data folder of promscale: choose "
            "another with --data-dir",
            f->dir, name);
    }
    closedir(d);
    return st;
}

static ps_status
check_layout(emb_folder *f, ps_err *err)
{
    char text[64];

    ps_status st = emb_read_file(f->dir_fd, "VERSION", text, sizeof(text), err);
    if (st == PS_ENOTFOUND) {
        PS_TRY(check_empty(f, err));
        return emb_write_file(f->dir_fd, "VERSION", PS_STR(LAYOUT), 0644, f->owner_uid,
                              f->owner_gid, err);
    }
    PS_TRY(st);
    if (strcmp(text, LAYOUT) != 0)
        return ps_fail(
            err, PS_EUNSUPPORTED,
            "data folder %s was laid out by another version of promscale: use that one, or "
            "choose another folder with --data-dir",
            f->dir);
    return PS_OK;
}

ps_status
emb_folder_open(emb_folder *f, ps_err *err)
{
    struct stat st;

    PS_TRY(make_folder(f, err));
    f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir_fd < 0 || fstat(f->dir_fd, &st) != 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot open the data folder %s: %s", f->dir,
                       strerror(errno));
    f->owner_uid = st.st_uid;
    f->owner_gid = st.st_gid;
    if (geteuid() != 0 && st.st_uid != geteuid())
        return ps_fail(
            err, PS_EINVAL,
            "data folder %s belongs to user id %u: start promscale as that user, or choose "
            "another folder with --data-dir",
            f->dir, (unsigned)st.st_uid);
    PS_TRY(lock_folder(f, err));
    PS_TRY(check_layout(f, err));
    f->exists = true;
    return PS_OK;
}

void
emb_folder_close(emb_folder *f)
{
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    if (f->dir_fd >= 0)
        close(f->dir_fd);
    f->lock_fd = f->dir_fd = -1;
}

/* ---- small files ------------------------------------------------------------------------- */

static bool
write_all(int fd, ps_str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text.ptr += n;
        text.len -= (size_t)n;
    }
    return true;
}

ps_status
emb_write_file(int dir_fd, const char *name, ps_str text, mode_t mode, uid_t uid, gid_t gid,
               ps_err *err)
{
    char tmp[80];

    snprintf(tmp, sizeof(tmp), "%s.tmp", name);
    unlinkat(dir_fd, tmp, 0);
    int fd = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    bool ok = fd >= 0 && write_all(fd, text) && fchmod(fd, mode) == 0 &&
              (geteuid() != 0 || fchown(fd, uid, gid) == 0) && fsync(fd) == 0;
    ok = ok && renameat(dir_fd, tmp, dir_fd, name) == 0 && fsync(dir_fd) == 0;
    if (!ok)
        ps_fail(err, PS_EUNAVAILABLE, "cannot write %s in the data folder: %s", name,
                strerror(errno));
    if (fd >= 0)
        close(fd);
    if (!ok)
        unlinkat(dir_fd, tmp, 0);
    return ok ? PS_OK : PS_EUNAVAILABLE;
}

ps_status
emb_read_file(int dir_fd, const char *name, char *dst, size_t cap, ps_err *err)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return ps_fail(err, errno == ENOENT ? PS_ENOTFOUND : PS_EUNAVAILABLE,
                       "cannot read %s in the data folder: %s", name, strerror(errno));
    ssize_t n = read(fd, dst, cap - 1);
    int read_errno = errno;
    close(fd);
    if (n < 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot read %s in the data folder: %s", name,
                       strerror(read_errno));
    dst[n] = '\0';
    return PS_OK;
}

static bool
value_of(const char *text, const char *key, char *dst, size_t cap)
{
    size_t key_len = strlen(key);
    while (text && *text) {
        const char *end = strchr(text, '\n');
        if (!end)
            return false;
        if (strncmp(text, key, key_len) == 0 && text[key_len] == '=') {
            size_t len = (size_t)(end - text) - key_len - 1;
            if (len >= cap)
                return false;
            memcpy(dst, text + key_len + 1, len);
            dst[len] = '\0';
            return true;
        }
        text = end + 1;
    }
    return false;
}

bool
emb_read_server_file(int dir_fd, emb_server_file *ret)
{
    char text[2048];
    if (emb_read_file(dir_fd, "server", text, sizeof(text), NULL) != PS_OK)
        return false;
    return value_of(text, "socket", ret->socket_dir, sizeof(ret->socket_dir)) &&
           value_of(text, "signature", ret->signature, sizeof(ret->signature));
}

ps_status
emb_write_server_file(const emb_folder *f, const emb_server_file *s, ps_err *err)
{
    char text[2048];
    int n = snprintf(text, sizeof(text),
                     "# how \"promscale sql\" and the next start find the running server\n"
                     "socket=%s\nport=%d\nuser=%s\ndatabase=%s\nsignature=%s\n",
                     s->socket_dir, (int)EMB_PORT, EMB_ROLE, EMB_DATABASE, s->signature);
    return emb_write_file(f->dir_fd, "server", (ps_str){text, (size_t)n}, 0644, f->owner_uid,
                          f->owner_gid, err);
}

/* ---- socket folder ----------------------------------------------------------------------- */

/* True if it is a folder that nobody but its owner (the server's user) can enter. */
static bool
is_private(const char *path, const emb_user *user)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == user->uid &&
           (st.st_mode & 0777) == 0700;
}

/* Short enough (a socket's path has 107 bytes, the file's name comes after ours), and nothing in it
 * that would need quoting in a connection string. */
static bool
usable_parent(const char *path)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-.";
    return path && path[0] == '/' && strlen(path) <= 60 && strspn(path, plain) == strlen(path);
}

ps_status
emb_socket_dir(const emb_folder *f, const char *last, char *dst, size_t cap, ps_err *err)
{
    const char *const parents[] = {geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR"), "/tmp"};

    if (last[0] && usable_parent(last) && is_private(last, &f->user)) {
        memmove(dst, last, strlen(last) + 1);
        return PS_OK;
    }
    for (size_t i = 0; i < PS_ARRAY_LEN(parents); i++) {
        if (!usable_parent(parents[i]))
            continue;
        int n = snprintf(dst, cap, "%s/promscale-XXXXXX", parents[i]);
        if (n < 0 || (size_t)n >= cap || !mkdtemp(dst))
            continue;
        if (!f->user.drop || chown(dst, f->user.uid, f->user.gid) == 0)
            return PS_OK;
        rmdir(dst);
    }
    return ps_fail(err, PS_EUNAVAILABLE, "cannot make a folder for the socket in /run or /tmp: %s",
                   strerror(errno));
}
