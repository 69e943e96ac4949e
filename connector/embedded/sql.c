/*
 * sql.c - `promscale sql`: becomes psql on the database that the connector uses.
 *
 * Over the private socket the kernel says who we are (pg_ident.conf maps it to the superuser), so
 * nothing has to be changed or known for it. A password for a database elsewhere goes to psql by its
 * environment: an argument would show in the list of processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connector/embedded/internal.h"
#include "connector/pg/pg.h"

extern char **environ;

/* Nothing that the shell happens to hold may lead psql elsewhere or change the session. */
static void
forget_pg_environment(void)
{
    static const char *const names[] = {"PGHOST",        "PGHOSTADDR",      "PGPORT",
                                        "PGUSER",        "PGDATABASE",      "PGPASSWORD",
                                        "PGPASSFILE",    "PGOPTIONS",       "PGSERVICE",
                                        "PGSERVICEFILE", "PGSSLMODE",       "PGTARGETSESSIONATTRS",
                                        "PGREQUIREAUTH", "PGCHANNELBINDING"};
    for (size_t i = 0; i < PS_ARRAY_LEN(names); i++)
        unsetenv(names[i]);
}

static int
become_psql(const char *program, const char *conninfo, int argc, char *const *argv, ps_err *err)
{
    const char **args = calloc((size_t)argc + 4, sizeof(*args));
    if (!args) {
        ps_fail(err, PS_ENOMEM, "out of memory");
        return 1;
    }
    args[0] = "psql";
    args[1] = "-d";
    args[2] = conninfo;
    for (int i = 0; i < argc; i++)
        args[3 + i] = argv[i];
    execvp(program, (char *const *)args);
    ps_fail(err, PS_ENOTFOUND, "cannot start psql (%s): %s; it is in the package postgresql-client",
            program, strerror(errno));
    free(args);
    return 1;
}

/* The psql beside the server if there is one, else the one in PATH. */
static void
find_psql(const char *bin_dir, int major, char *dst, size_t cap)
{
    emb_binaries b;
    snprintf(dst, cap, "psql");
    if (emb_find_binaries(bin_dir, major, &b, NULL) != PS_OK)
        return;
    char path[EMB_PATH_MAX + 8];
    snprintf(path, sizeof(path), "%s/psql", b.dir);
    if (access(path, X_OK) == 0)
        snprintf(dst, cap, "%s", path);
}

static int
sql_embedded(const settings *s, int argc, char *const *argv, ps_err *err)
{
    emb_folder f;
    emb_server_file server;
    char conninfo[256];
    char psql[EMB_PATH_MAX + 8];

    emb_expect_children();
    if (emb_folder_find(s->data_dir, &f, err) != PS_OK)
        return 1;
    f.dir_fd = open(f.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f.dir_fd < 0 || !emb_read_server_file(f.dir_fd, &server)) {
        ps_fail(
            err, PS_EUNAVAILABLE,
            "no promscale runs on data folder %.100s: start it with \"promscale --data-dir %.60s\"",
            f.dir, s->data_dir);
        emb_folder_close(&f);
        return 1;
    }
    if (access(server.socket_dir, X_OK) != 0 && errno == EACCES) {
        struct stat st;
        const struct passwd *pw = stat(server.socket_dir, &st) == 0 ? getpwuid(st.st_uid) : NULL;
        ps_fail(err, PS_EINVAL,
                "the database of %.120s runs as user %s: run this as that user, or as root", f.dir,
                pw ? pw->pw_name : "unknown");
        emb_folder_close(&f);
        return 1;
    }
    snprintf(conninfo, sizeof(conninfo), "host=%s port=%d user=%s dbname=%s", server.socket_dir,
             (int)EMB_PORT, EMB_ROLE, EMB_DATABASE);
    forget_pg_environment();
    PGPing ping = PQping(conninfo);
    if (ping != PQPING_OK && ping != PQPING_REJECT) {
        ps_fail(err, PS_EUNAVAILABLE,
                "the database of data folder %.100s does not answer: start it with \"promscale "
                "--data-dir %.60s\"",
                f.dir, s->data_dir);
        emb_folder_close(&f);
        return 1;
    }
    find_psql(s->embedded_bin_dir, emb_data_major(&f), psql, sizeof(psql));
    emb_folder_close(&f);
    return become_psql(psql, conninfo, argc, argv, err);
}

static void
add_keyword(ps_buf *out, const char *keyword, const char *value)
{
    ps_buf_addf(out, "%s%s='", out->len > 0 ? " " : "", keyword);
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            ps_buf_add_char(out, '\\');
        ps_buf_add_char(out, *value);
    }
    ps_buf_add_char(out, '\'');
}

static int
sql_external(const settings *s, int argc, char *const *argv, ps_err *err)
{
    ps_buf whole, without;
    char psql[EMB_PATH_MAX + 8];
    int code = 1;

    ps_buf_init(&whole, &ps_malloc);
    ps_buf_init(&without, &ps_malloc);
    if (pg_conninfo(s, &whole, err) != PS_OK)
        goto out;
    ps_buf_add_char(&whole, '\0');
    PQconninfoOption *options = whole.failed ? NULL : PQconninfoParse(whole.ptr, NULL);
    if (!options) {
        ps_fail(err, PS_EINVAL, "cannot read the database settings (db.uri)");
        goto out;
    }
    forget_pg_environment();
    for (const PQconninfoOption *o = options; o->keyword; o++) {
        if (!o->val || !o->val[0])
            continue;
        if (strcmp(o->keyword, "password") == 0)
            setenv("PGPASSWORD", o->val, 1);
        else
            add_keyword(&without, o->keyword, o->val);
    }
    PQconninfoFree(options);
    ps_buf_add_char(&without, '\0');
    if (without.failed) {
        ps_fail(err, PS_ENOMEM, "out of memory");
        goto out;
    }
    find_psql(s->embedded_bin_dir, 0, psql, sizeof(psql));
    code = become_psql(psql, without.ptr, argc, argv, err);
out:
    ps_buf_done(&whole);
    ps_buf_done(&without);
    return code;
}

int
embedded_sql_main(const settings *s, int argc, char *const *argv, ps_err *err)
{
    return s->db_is_external ? sql_external(s, argc, argv, err) : sql_embedded(s, argc, argv, err);
}
