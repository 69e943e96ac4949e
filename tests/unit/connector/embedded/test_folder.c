/*
 * test_folder.c - the data folder: made, locked, recognised, refused; its small files; the socket's folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connector/embedded/internal.h"
#include "tests/unit/support.h"

static char base[EMB_PATH_MAX];

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int
setup(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(base, sizeof(base), "%s/promscale-unit-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(base))
        return -1;
    return chmod(base, 0755); /* root's server user must be able to enter */
}

static int
teardown(void **state)
{
    (void)state;
    return nftw(base, remove_one, 16, FTW_PHYS | FTW_DEPTH);
}

static const char *
below(const char *name)
{
    static char path[EMB_PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    return path;
}

static void
make_file(const char *name, const char *text)
{
    FILE *f = fopen(below(name), "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void
test_new_folder(void **state)
{
    emb_folder f;
    ps_err err;
    (void)state;

    assert_int_equal(emb_folder_find(below("new"), &f, &err), PS_OK);
    assert_false(f.exists);
    assert_false(f.moved);
    assert_int_not_equal(f.user.uid, 0);              /* never root */
    assert_int_equal(access(below("new"), F_OK), -1); /* finding makes nothing */
    assert_int_equal(emb_folder_open(&f, &err), PS_OK);
    assert_int_equal(access(below("new/VERSION"), F_OK), 0);
    assert_int_equal(emb_data_major(&f), 0);
    emb_folder_close(&f);

    assert_int_equal(emb_folder_find(below("new"), &f, &err), PS_OK);
    assert_true(f.exists);
    assert_int_equal(emb_folder_open(&f, &err), PS_OK);
    emb_folder_close(&f);
}

static void
test_path_is_made_absolute(void **state)
{
    emb_folder f;
    ps_err err;
    char was[EMB_PATH_MAX];
    (void)state;

    assert_non_null(getcwd(was, sizeof(was)));
    assert_int_equal(chdir(base), 0);
    assert_int_equal(emb_folder_find("relative/", &f, &err), PS_OK);
    assert_string_equal(f.dir, below("relative"));
    assert_int_equal(symlink(base, below("link")), 0);
    assert_int_equal(emb_folder_find("link/x", &f, &err), PS_OK);
    assert_string_equal(f.dir, below("x"));
    assert_int_equal(emb_folder_find("a/b/c", &f, &err), PS_EINVAL);
    assert_non_null(strstr(err.text, "parent folder"));
    assert_int_equal(emb_folder_find("..", &f, &err), PS_OK);
    assert_int_equal(emb_folder_find("no/..", &f, &err), PS_EINVAL);
    assert_int_equal(chdir(was), 0);
}

static void
test_long_path(void **state)
{
    char path[EMB_PATH_MAX * 5];
    emb_folder f;
    ps_err err;
    (void)state;

    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_not_equal(emb_folder_find(path, &f, &err), PS_OK);
    path[300] = '\0';
    assert_int_not_equal(emb_folder_find(path, &f, &err), PS_OK);
}

static void
test_lock(void **state)
{
    emb_folder a, b;
    ps_err err;
    char pid[16];
    (void)state;

    assert_int_equal(emb_folder_find(below("locked"), &a, &err), PS_OK);
    assert_int_equal(emb_folder_open(&a, &err), PS_OK);
    assert_int_equal(emb_folder_find(below("locked"), &b, &err), PS_OK);
    assert_int_equal(emb_folder_open(&b, &err), PS_ECONFLICT);
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    assert_non_null(strstr(err.text, pid));
    emb_folder_close(&b);
    emb_folder_close(&a);
    assert_int_equal(emb_folder_find(below("locked"), &b, &err), PS_OK);
    assert_int_equal(emb_folder_open(&b, &err), PS_OK);
    emb_folder_close(&b);
}

static void
test_foreign_folders(void **state)
{
    emb_folder f;
    ps_err err;
    (void)state;

    assert_int_equal(mkdir(below("foreign"), 0755), 0);
    make_file("foreign/letter.txt", "dear");
    assert_int_equal(emb_folder_find(below("foreign"), &f, &err), PS_OK);
    assert_int_equal(emb_folder_open(&f, &err), PS_EINVAL);
    assert_non_null(strstr(err.text, "letter.txt"));
    assert_int_equal(access(below("foreign/VERSION"), F_OK), -1);
    emb_folder_close(&f);

    assert_int_equal(mkdir(below("later"), 0755), 0);
    make_file("later/VERSION", "promscale-data 2\n");
    assert_int_equal(emb_folder_find(below("later"), &f, &err), PS_OK);
    assert_int_equal(emb_folder_open(&f, &err), PS_EUNSUPPORTED);
    emb_folder_close(&f);

    make_file("file", "no folder");
    assert_int_equal(emb_folder_find(below("file"), &f, &err), PS_EINVAL);
    assert_non_null(strstr(err.text, "not a folder"));
}

static void
test_write_file_follows_no_link(void **state)
{
    ps_err err;
    char text[32];
    (void)state;

    int fd = open(base, O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    make_file("victim", "precious");
    assert_int_equal(symlink("victim", below("note")), 0);
    assert_int_equal(symlink("victim", below("note.tmp")), 0);
    assert_int_equal(emb_write_file(fd, "note", PS_STR("ours"), 0600, getuid(), getgid(), &err),
                     PS_OK);
    assert_int_equal(emb_read_file(fd, "note", text, sizeof(text), &err), PS_OK);
    assert_string_equal(text, "ours");
    assert_int_equal(emb_read_file(fd, "victim", text, sizeof(text), &err), PS_OK);
    assert_string_equal(text, "precious");
    assert_int_equal(symlink("victim", below("link2")), 0);
    assert_int_equal(emb_read_file(fd, "link2", text, sizeof(text), &err), PS_EUNAVAILABLE);
    assert_int_equal(emb_read_file(fd, "none", text, sizeof(text), &err), PS_ENOTFOUND);
    assert_int_equal(emb_read_file(fd, "victim", text, 4, &err), PS_OK);
    assert_string_equal(text, "pre");
    close(fd);
}

static void
test_linked_file_is_not_given_away(void **state)
{
    emb_folder f;
    ps_err err;
    (void)state;

    if (geteuid() != 0) {
        print_message("# only root gives files away\n");
        skip();
    }
    assert_int_equal(mkdir(below("linked"), 0755), 0);
    make_file("secret", "root's");
    char secret[sizeof(base) + 16];
    snprintf(secret, sizeof(secret), "%s/secret", base);
    assert_int_equal(link(secret, below("linked/run.lock")), 0);
    assert_int_equal(emb_folder_find(below("linked"), &f, &err), PS_OK);
    assert_int_equal(emb_folder_open(&f, &err), PS_EUNAVAILABLE);
    emb_folder_close(&f);
}

static void
test_server_file(void **state)
{
    emb_server_file in = {.socket_dir = "/run/promscale-abcdef", .signature = "0123456789abcdef"};
    emb_server_file out;
    emb_folder f;
    ps_err err;
    (void)state;

    assert_int_equal(emb_folder_find(below("server"), &f, &err), PS_OK);
    assert_int_equal(emb_folder_open(&f, &err), PS_OK);
    assert_false(emb_read_server_file(f.dir_fd, &out));
    assert_int_equal(emb_write_server_file(&f, &in, &err), PS_OK);
    assert_true(emb_read_server_file(f.dir_fd, &out));
    assert_string_equal(out.socket_dir, in.socket_dir);
    assert_string_equal(out.signature, in.signature);
    /* cut, too long, empty: not believed */
    static const char *const wrong[] = {
        "", "socket=/x", "socket=/x\n", "signature=1\nsocket\n",
        "signature=0123456789012345678901234567890123456789\nsocket=/x\n"};
    for (size_t i = 0; i < PS_ARRAY_LEN(wrong); i++) {
        make_file("server/server", wrong[i]);
        assert_false(emb_read_server_file(f.dir_fd, &out));
    }
    emb_folder_close(&f);
}

static void
test_socket_folder(void **state)
{
    emb_folder f;
    ps_err err;
    struct stat st;
    char first[108], again[108];
    (void)state;

    assert_int_equal(emb_folder_find(below("sock"), &f, &err), PS_OK);
    assert_int_equal(emb_socket_dir(&f, "", first, sizeof(first), &err), PS_OK);
    assert_int_equal(stat(first, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(st.st_uid, f.user.uid);
    assert_true(strlen(first) + strlen("/.s.PGSQL.5432.lock") < 107);
    /* the same again while it is private, another one when it is not */
    assert_int_equal(emb_socket_dir(&f, first, again, sizeof(again), &err), PS_OK);
    assert_string_equal(first, again);
    assert_int_equal(chmod(first, 0755), 0);
    assert_int_equal(emb_socket_dir(&f, first, again, sizeof(again), &err), PS_OK);
    assert_string_not_equal(first, again);
    rmdir(again);
    rmdir(first);
    assert_int_equal(emb_socket_dir(&f, "/no such/folder", again, sizeof(again), &err), PS_OK);
    assert_string_not_equal(again, "/no such/folder");
    rmdir(again);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_folder),
        cmocka_unit_test(test_path_is_made_absolute),
        cmocka_unit_test(test_long_path),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_foreign_folders),
        cmocka_unit_test(test_write_file_follows_no_link),
        cmocka_unit_test(test_linked_file_is_not_given_away),
        cmocka_unit_test(test_server_file),
        cmocka_unit_test(test_socket_folder),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
