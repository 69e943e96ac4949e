/*
 * cluster.c - the PostgreSQL installation that we find, the cluster that we make with it, and its
 * configuration.
 *
 * initdb works in DIR/pg.new, which is renamed to DIR/pg at its end: a folder "pg" is always whole, and
 * what an interrupted initdb left is thrown away.
 *
 * Who may connect (there is no TCP): the socket stands in a folder that only the server's user (and
 * root) can enter; on top of it the kernel tells the server who is at the other end (peer), and only
 * root, the server's user and the owner of the data folder become the superuser. Every other role
 * needs a password, should somebody open the folder to others.
 *
 * promscale.conf and pg_ident.conf are ours and written at each start; postgresql.conf includes the
 * former and is then the user's, pg_hba.conf too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "connector/embedded/internal.h"

/* Below this a parallel query can run out of /dev/shm (containers have 64 MB). */
#define SMALL_SHM_BYTES (256LL << 20)

int
emb_data_major(const emb_folder *f)
{
    char text[32];
    return emb_read_file(f->dir_fd, "pg/PG_VERSION", text, sizeof(text), NULL) == PS_OK ? atoi(text)
                                                                                        : 0;
}

/* ---- binaries ---------------------------------------------------------------------------- */

static bool
is_program(const char *dir, const char *name)
{
    char path[EMB_PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, X_OK) == 0;
}

static bool
is_server_dir(const char *dir)
{
    return is_program(dir, "postgres") && is_program(dir, "initdb");
}

/* "postgres (PostgreSQL) 15.20 (Debian ...)" -> 15; 0 if it does not say. */
static int
major_of(const char *dir)
{
    char path[EMB_PATH_MAX + 32];
    char out[256];
    int code = 0;
    const emb_user self = {.drop = false};

    snprintf(path, sizeof(path), "%s/postgres", dir);
    const char *const argv[] = {path, "--version", NULL};
    if (emb_run(&self, argv, out, sizeof(out), &code, NULL) != PS_OK || code != 0)
        return 0;
    const char *after = strstr(out, "(PostgreSQL) ");
    return after ? atoi(after + strlen("(PostgreSQL) ")) : 0;
}

static bool
debian_dir(int major, char *dst, size_t cap)
{
    snprintf(dst, cap, "/usr/lib/postgresql/%d/bin", major);
    return is_server_dir(dst);
}

/* The first folder in PATH with a server that fits; links are resolved, its library folder lies beside. */
static bool
path_dir(int data_major, char *dst, size_t cap, int *ret_major)
{
    const char *at = getenv("PATH");
    while (at && *at) {
        char dir[EMB_PATH_MAX];
        char file[EMB_PATH_MAX + 32];
        size_t len = strcspn(at, ":");
        if (len > 0 && len < sizeof(dir) && at[0] == '/') {
            memcpy(dir, at, len);
            dir[len] = '\0';
            snprintf(file, sizeof(file), "%s/postgres", dir);
            char *real = is_program(dir, "postgres") ? realpath(file, NULL) : NULL;
            if (real) {
                *strrchr(real, '/') = '\0';
                int n = snprintf(dst, cap, "%s", real);
                free(real);
                int major = n > 0 && (size_t)n < cap && is_server_dir(dst) ? major_of(dst) : 0;
                if (major >= EMB_MIN_MAJOR && (data_major == 0 || major == data_major)) {
                    *ret_major = major;
                    return true;
                }
            }
        }
        at += len + (at[len] == ':');
    }
    return false;
}

static bool
find_around(int data_major, emb_binaries *b)
{
    int first = data_major ? data_major : EMB_MIN_MAJOR;
    int last = data_major ? data_major : EMB_MIN_MAJOR + 20;
    for (b->major = first; b->major <= last; b->major++) {
        if (debian_dir(b->major, b->dir, sizeof(b->dir)))
            return true;
    }
    return path_dir(data_major, b->dir, sizeof(b->dir), &b->major);
}

static void
look_at_files(emb_binaries *b)
{
    char path[EMB_PATH_MAX + 64];
    struct stat st;

    snprintf(path, sizeof(path), "%s/postgres", b->dir);
    if (stat(path, &st) == 0)
        b->stamp = st.st_mtim.tv_sec ^ ((int64_t)st.st_ino << 32);
    /* Debian's layout, then the one of a plain "make install" */
    const char *const places[] = {"../lib/promscale.so", "../lib/postgresql/promscale.so"};
    for (size_t i = 0; i < PS_ARRAY_LEN(places) && !b->has_extension; i++) {
        snprintf(path, sizeof(path), "%s/%s", b->dir, places[i]);
        if (stat(path, &st) == 0) {
            b->has_extension = true;
            b->stamp ^= st.st_mtim.tv_sec * 31 + st.st_mtim.tv_nsec + (int64_t)st.st_ino;
        }
    }
}

static ps_status
wrong_major(int data_major, const char *what, ps_err *err)
{
    return ps_fail(
        err, PS_EUNSUPPORTED,
        "the data folder was made by PostgreSQL %d, %s: install postgresql-%d, or move the data with pg_dump to "
        "a new data folder (--data-dir)",
        data_major, what, data_major);
}

ps_status
emb_find_binaries(const char *bin_dir, int data_major, emb_binaries *ret, ps_err *err)
{
    emb_binaries b = {.major = 0};
    char what[64];

    if (data_major != 0 && data_major < EMB_MIN_MAJOR)
        return wrong_major(data_major, "older than this promscale can use (15)", err);
    if (bin_dir[0]) {
        if (strlen(bin_dir) >= sizeof(b.dir) - 64 || !is_server_dir(bin_dir))
            return ps_fail(err, PS_EINVAL,
                           "embedded.bin-dir %.120s holds no programs postgres and initdb",
                           bin_dir);
        snprintf(b.dir, sizeof(b.dir), "%s", bin_dir);
        b.major = major_of(b.dir);
        if (b.major < EMB_MIN_MAJOR)
            return ps_fail(err, PS_EUNSUPPORTED,
                           "embedded.bin-dir %.120s: PostgreSQL %d is older than 15", bin_dir,
                           b.major);
        if (data_major != 0 && data_major != b.major) {
            snprintf(what, sizeof(what), "embedded.bin-dir holds PostgreSQL %d", b.major);
            return wrong_major(data_major, what, err);
        }
    } else if (!find_around(data_major, &b)) {
        if (data_major != 0)
            return wrong_major(data_major, "which is not on this machine", err);
        return ps_fail(
            err, PS_ENOTFOUND,
            "no PostgreSQL 15 or newer found in /usr/lib/postgresql or PATH: install package postgresql-15, "
            "or set --embedded.bin-dir, or use your own server with --db.uri");
    }
    look_at_files(&b);
    *ret = b;
    return PS_OK;
}

/* ---- initdb ------------------------------------------------------------------------------ */

static const char postgresql_conf[] =
    "# Promscale writes promscale.conf at each start. Settings below the include win over it.\n"
    "include 'promscale.conf'\n";

static const char pg_hba_conf[] =
    "# TYPE  DATABASE     USER      METHOD\n"
    "# No TCP at all. The superuser is whoever pg_ident.conf names; other roles need a password.\n"
    "local   all          postgres  peer map=promscale\n"
    "local   replication  postgres  peer map=promscale\n"
    "local   all          all       scram-sha-256\n";

static ps_status
open_pg(const emb_folder *f, const char *name, int *ret, ps_err *err)
{
    *ret = openat(f->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret >= 0 ? PS_OK
                     : ps_fail(err, PS_EUNAVAILABLE, "cannot open %s/%s: %s", f->dir, name,
                               strerror(errno));
}

static ps_status
write_pg(const emb_folder *f, int fd, const char *name, ps_str text, ps_err *err)
{
    return emb_write_file(fd, name, text, 0600, f->user.uid, f->user.gid, err);
}

/* The last line that says something, made for people. */
static const char *
last_line(char *text)
{
    size_t len = strlen(text);
    for (;;) {
        while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
            text[--len] = '\0';
        char *line = strrchr(text, '\n');
        line = line ? line + 1 : text;
        /* initdb ends by telling what it cleans up; the reason stands before */
        bool chatter = strstr(line, "removing ") || strstr(line, "child process exited") ||
                       strncmp(line, "HINT", 4) == 0;
        if (!chatter || line == text)
            return line;
        len = (size_t)(line - text);
        text[len] = '\0';
    }
}

/* What an initdb that was killed left: processes for a moment, files for good. */
static ps_status
remove_unfinished(const emb_folder *f, const char *fresh, ps_err *err)
{
    for (int i = 0; i < 500 && emb_scan(&f->user, fresh, 0, SIGKILL) > 0; i++)
        emb_sleep_ms(10);
    return emb_remove_tree(&f->user, fresh, err);
}

ps_status
emb_initdb(const emb_folder *f, const emb_binaries *b, ps_err *err)
{
    char fresh[EMB_PATH_MAX];
    char program[EMB_PATH_MAX + 32];
    char tail[2048];
    int code = 0;
    int fd = -1;

    PS_TRY(emb_path(fresh, sizeof(fresh), f->dir, "pg.new", err));
    PS_TRY(remove_unfinished(f, fresh, err));
    if (mkdirat(f->dir_fd, "pg.new", 0700) != 0 || chmod(fresh, 0700) != 0 ||
        (f->user.drop &&
         fchownat(f->dir_fd, "pg.new", f->user.uid, f->user.gid, AT_SYMLINK_NOFOLLOW) != 0))
        return ps_fail(err, PS_EUNAVAILABLE, "cannot make %s: %s", fresh, strerror(errno));
    snprintf(program, sizeof(program), "%s/initdb", b->dir);
    const char *const argv[] = {program,
                                "-D",
                                fresh,
                                "-U",
                                EMB_ROLE,
                                "-k",
                                "--locale=C",
                                "--encoding=UTF8",
                                "--auth-local=peer",
                                "--auth-host=reject",
                                NULL};
    PS_TRY(emb_run(&f->user, argv, tail, sizeof(tail), &code, err));
    if (code != 0 && emb_interrupted()) /* Ctrl-C reaches initdb, too */
        return ps_fail(err, PS_ECANCELED, "interrupted");
    if (code != 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot make the database in %s: %.160s", f->dir,
                       last_line(tail));
    PS_TRY(open_pg(f, "pg.new", &fd, err));
    ps_status st = write_pg(f, fd, "postgresql.conf", PS_STR(postgresql_conf), err);
    if (st == PS_OK)
        st = write_pg(f, fd, "pg_hba.conf", PS_STR(pg_hba_conf), err);
    close(fd);
    PS_TRY(st);
    if (renameat(f->dir_fd, "pg.new", f->dir_fd, "pg") != 0 || fsync(f->dir_fd) != 0)
        return ps_fail(err, PS_EUNAVAILABLE, "cannot rename %s: %s", fresh, strerror(errno));
    return PS_OK;
}

/* ---- configuration ----------------------------------------------------------------------- */

static bool
bad_shm(const emb_user *user)
{
    struct statvfs v;
    if (statvfs("/dev/shm", &v) != 0 || !emb_can_write(user, "/dev/shm"))
        return true;
    return (int64_t)v.f_blocks * (int64_t)v.f_frsize < SMALL_SHM_BYTES;
}

static void
add_ident(ps_buf *out, uid_t uid)
{
    const struct passwd *pw = getpwuid(uid);
    if (pw && !strpbrk(pw->pw_name, "\"\n"))
        ps_buf_addf(out, "promscale  \"%s\"  %s\n", pw->pw_name, EMB_ROLE);
}

static void
render_ident(const emb_folder *f, ps_buf *out)
{
    ps_buf_add_c(
        out, "# Written by promscale at each start: who may be the superuser over the socket.\n");
    add_ident(out, 0);
    if (f->user.uid != 0)
        add_ident(out, f->user.uid);
    if (f->owner_uid != 0 && f->owner_uid != f->user.uid)
        add_ident(out, f->owner_uid);
}

static void
render_conf(const emb_folder *f, const emb_binaries *b, const settings *s, ps_buf *out)
{
    ps_buf_add_c(
        out,
        "# Written by promscale at each start; put settings of your own into postgresql.conf.\n"
        "listen_addresses = ''\n"
        "unix_socket_permissions = 0700\n"
        "cluster_name = 'promscale'\n"
        "max_connections = 50\n"
        "max_locks_per_transaction = 1024\n" /* pg_dump takes some three for each metric */
        "password_encryption = 'scram-sha-256'\n"
        "\n# what is acknowledged is on disk\n"
        "fsync = on\n"
        "full_page_writes = on\n"
        "synchronous_commit = on\n"
        "wal_level = replica\n"
        "checkpoint_timeout = 15min\n"
        "max_wal_size = 2GB\n"
        "\n# small by default; --embedded.shared-buffers raises it\n");
    ps_buf_addf(out, "shared_buffers = %" PRId64 "kB\n", s->embedded_shared_buffers / 1024);
    ps_buf_add_c(out, "huge_pages = off\n");
    /* System V memory does not live in /dev/shm, and not in files of the data folder as mmap does. */
    ps_buf_addf(out, "dynamic_shared_memory_type = %s\n", bad_shm(&f->user) ? "sysv" : "posix");
    ps_buf_add_c(out, "jit = off\n"
                      "autovacuum_naptime = 10s\n"
                      "\n# locale and time never depend on the machine\n"
                      "timezone = 'UTC'\n"
                      "log_timezone = 'UTC'\n"
                      "lc_messages = 'C'\n"
                      "\n# promscale keeps pg.log bounded\n"
                      "log_destination = 'stderr'\n"
                      "logging_collector = off\n"
                      "log_line_prefix = '%m [%p] %q%a '\n");
    if (b->has_extension)
        ps_buf_add_c(out, "\nshared_preload_libraries = 'promscale'\n"
                          "promscale.database = '" EMB_DATABASE "'\n");
}

ps_status
emb_configure(const emb_folder *f, const emb_binaries *b, const settings *s, char *signature,
              ps_err *err)
{
    ps_buf conf, ident;
    int fd = -1;
    ps_status st = PS_OK;

    ps_buf_init(&conf, &ps_malloc);
    ps_buf_init(&ident, &ps_malloc);
    render_conf(f, b, s, &conf);
    render_ident(f, &ident);
    if (conf.failed || ident.failed) {
        st = ps_fail(err, PS_ENOMEM, "out of memory");
        goto out;
    }
    st = open_pg(f, "pg", &fd, err);
    if (st == PS_OK)
        st = write_pg(f, fd, "promscale.conf", ps_buf_str(&conf), err);
    if (st == PS_OK)
        st = write_pg(f, fd, "pg_ident.conf", ps_buf_str(&ident), err);
    if (st != PS_OK)
        goto out;
    ps_buf_addf(&conf, "%s %s %" PRId64 "\n", PROMSCALE_VERSION, b->dir, b->stamp);
    ps_buf_add_str(&conf, ps_buf_str(&ident));
    if (conf.failed)
        st = ps_fail(err, PS_ENOMEM, "out of memory");
    else
        snprintf(signature, 32, "%016" PRIx64, ps_hash64(ps_buf_str(&conf), 0));
out:
    if (fd >= 0)
        close(fd);
    ps_buf_done(&conf);
    ps_buf_done(&ident);
    return st;
}
