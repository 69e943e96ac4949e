/*
 * internal.h - what the files of connector/embedded share. See README.md for the flow.
 *
 * Threads: everything here is called by one thread at a time, the one that owns the `embedded`.
 * Forked children between fork and exec call only async-signal-safe functions, since the connector
 * has threads when it restarts the server (emb_scan is the exception; glibc's malloc survives fork).
 */
#ifndef PROMSCALE_CONNECTOR_EMBEDDED_INTERNAL_H
#define PROMSCALE_CONNECTOR_EMBEDDED_INTERNAL_H

#include <sys/types.h>

#include "connector/embedded/embedded.h"
#include "lib/base/base.h"

enum {
    EMB_PATH_MAX = 1024, /* for any path that we put together */
    EMB_PORT = 5432,     /* only names the socket file: nothing listens on TCP */
    EMB_MIN_MAJOR = 15
};
#define EMB_DATABASE "promscale"
#define EMB_ROLE "postgres"

typedef void (*emb_progress)(void *self, const char *line);

/* ---- process.c --------------------------------------------------------------------------- */

/* Whom the server runs as. */
typedef struct emb_user {
    uid_t uid;
    gid_t gid;
    char name[64];
    bool drop; /* we are root: children change to uid and gid */
} emb_user;

/* A parent may have left SIGCHLD ignored; then nobody could wait for a child. */
void emb_expect_children(void);

typedef struct emb_command {
    const emb_user *user;
    const char *const *argv; /* argv[0] is a path; no shell anywhere */
    const char *cwd;         /* "" = / */
    int out_fd;              /* becomes stdout and stderr */
    bool own_session;        /* setsid: signals of the terminal do not reach it */
    bool dies_with_us;       /* with the calling thread, that is */
} emb_command;

ps_status emb_spawn(const emb_command *c, pid_t *ret, ps_err *err) PS_MUST_CHECK;
/* Runs to the end; keeps the last bytes of its output, NUL-terminated, in tail. */
ps_status emb_run(const emb_user *user, const char *const *argv, char *tail, size_t tail_cap,
                  int *ret_exit_code, ps_err *err) PS_MUST_CHECK;
/* True if `user` can enter the folder. */
bool emb_can_enter(const emb_user *user, const char *folder);
bool emb_can_write(const emb_user *user, const char *folder);
/* Counts the user's processes whose working folder is `folder` (only_pid 0: any process) and sends
 * each the signal (0 = none). Zombies do not count. -1 if it cannot be told. */
int emb_scan(const emb_user *user, const char *folder, pid_t only_pid, int signal_no);
/* Removes a folder tree with the user's rights; what does not exist is no error. */
ps_status emb_remove_tree(const emb_user *user, const char *path, ps_err *err) PS_MUST_CHECK;

int64_t emb_now_ms(void); /* monotonic */
void emb_sleep_ms(int64_t ms);
/* SIGINT, SIGTERM or SIGHUP is waiting behind the mask: waiting loops give up with PS_ECANCELED. */
bool emb_interrupted(void);

/* ---- folder.c ---------------------------------------------------------------------------- */

/*
 * DIR/VERSION    "promscale-data 1": that the folder is ours, and its layout
 * DIR/run.lock   held (flock) by the connector that runs; its pid as text
 * DIR/server     how to reach the running server (emb_server_file); gone after a clean stop
 * DIR/pg.log     output of the server, at most EMB_LOG_MAX bytes; the one before it in pg.log.1
 * DIR/pg/        the PostgreSQL data folder; pg.new/ while initdb works
 */
typedef struct emb_folder {
    char dir[EMB_PATH_MAX];
    char pg[EMB_PATH_MAX];
    char log_path[EMB_PATH_MAX];
    emb_user user;
    bool moved;      /* dir is not the one asked for: the user cannot enter that one */
    bool exists;     /* dir holds data (or the start of it) of ours */
    uid_t owner_uid; /* of dir; files that we make get it */
    gid_t owner_gid;
    int dir_fd;  /* -1 until emb_folder_open */
    int lock_fd; /* -1 unless locked */
} emb_folder;

typedef struct emb_server_file {
    char socket_dir[108];
    char signature[32]; /* of configuration and versions that the server was started with */
} emb_server_file;

/* Which folder and which user; makes nothing. */
ps_status emb_folder_find(const char *wanted, emb_folder *ret, ps_err *err) PS_MUST_CHECK;
/* Makes the folder if missing, locks it, checks that it is ours. */
ps_status emb_folder_open(emb_folder *f, ps_err *err) PS_MUST_CHECK;
void emb_folder_close(emb_folder *f);
/* As root: the open file becomes the folder owner's. False if it has another name elsewhere, since then
 * it may be a file that the owner only wishes to have. */
bool emb_give(int fd, const emb_folder *f);
/* Whole file or nothing, also after a crash. Never follows a link. */
ps_status emb_write_file(int dir_fd, const char *name, ps_str text, mode_t mode, uid_t uid,
                         gid_t gid, ps_err *err) PS_MUST_CHECK;
/* At most cap - 1 bytes; ENOENT gives PS_ENOTFOUND. */
ps_status emb_read_file(int dir_fd, const char *name, char *dst, size_t cap,
                        ps_err *err) PS_MUST_CHECK;
bool emb_read_server_file(int dir_fd, emb_server_file *ret);
ps_status emb_write_server_file(const emb_folder *f, const emb_server_file *s,
                                ps_err *err) PS_MUST_CHECK;
/* A private folder (0700, of the server's user) with a short path, for the socket; `last` ("" = none)
 * if it is still one. */
ps_status emb_socket_dir(const emb_folder *f, const char *last, char *dst, size_t cap,
                         ps_err *err) PS_MUST_CHECK;
ps_status emb_path(char *dst, size_t cap, const char *folder, const char *name,
                   ps_err *err) PS_MUST_CHECK;

/* ---- cluster.c --------------------------------------------------------------------------- */

typedef struct emb_binaries {
    char dir[EMB_PATH_MAX];
    int major;
    bool has_extension; /* promscale.so is there for it: worth preloading */
    int64_t stamp;      /* changes when the server's or the extension's file changes */
} emb_binaries;

/* Major version of the data, 0 = none yet. */
int emb_data_major(const emb_folder *f);
/* bin_dir "" = look around; data_major 0 = any. */
ps_status emb_find_binaries(const char *bin_dir, int data_major, emb_binaries *ret,
                            ps_err *err) PS_MUST_CHECK;
ps_status emb_initdb(const emb_folder *f, const emb_binaries *b, ps_err *err) PS_MUST_CHECK;
/* promscale.conf and pg_ident.conf, at each start. signature: at least 32 bytes. */
ps_status emb_configure(const emb_folder *f, const emb_binaries *b, const settings *s,
                        char *signature, ps_err *err) PS_MUST_CHECK;

/* ---- postmaster.c ------------------------------------------------------------------------ */

enum { EMB_LOG_MAX = 16 << 20 };

typedef struct emb_postmaster {
    const emb_folder *folder; /* borrowed */
    pid_t pid;                /* 0 = none */
    int pidfd;                /* -1 = none or not supported here */
    bool is_child;
    int log_fd;
} emb_postmaster;

ps_status emb_postmaster_init(emb_postmaster *p, const emb_folder *f, ps_err *err) PS_MUST_CHECK;
void emb_postmaster_done(emb_postmaster *p);
/* A server already at work on this data: pid is set. */
bool emb_postmaster_find(emb_postmaster *p);
bool emb_postmaster_alive(emb_postmaster *p);
/* Starts and waits until it answers; processes left over by one that was killed are waited for. */
ps_status emb_postmaster_start(emb_postmaster *p, const char *bin_dir, const char *socket_dir,
                               emb_progress progress, void *self, ps_err *err) PS_MUST_CHECK;
/* Waits until it answers, as long as it lives. */
ps_status emb_postmaster_wait(emb_postmaster *p, const char *socket_dir, emb_progress progress,
                              void *self, ps_err *err) PS_MUST_CHECK;
/* Fast shutdown; after timeout_ms immediate. PS_ETIMEOUT if it lives on. */
ps_status emb_postmaster_stop(emb_postmaster *p, int64_t timeout_ms, ps_err *err) PS_MUST_CHECK;
void emb_log_bound(emb_postmaster *p);

#endif
