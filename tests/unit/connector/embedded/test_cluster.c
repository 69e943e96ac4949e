/*
 * test_cluster.c - which PostgreSQL is taken, and what is said when none fits. The installations here are
 * folders with scripts in them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connector/embedded/internal.h"
#include "tests/unit/support.h"

static char base[64];

static void
make_script(const char *folder, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof(path), "%s/%s/%s", base, folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

/* A folder "<name>/bin" whose postgres says that it is of this version. */
static void
make_installation(const char *name, const char *version, char *ret_bin)
{
    char path[160], script[160];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/%s/bin", base, name);
    assert_int_equal(mkdir(path, 0755), 0);
    strcpy(ret_bin, path);
    snprintf(path, sizeof(path), "%s/bin", name);
    snprintf(script, sizeof(script), "#!/bin/sh\necho 'postgres (PostgreSQL) %s (made up)'\n",
             version);
    make_script(path, "postgres", script);
    make_script(path, "initdb", "#!/bin/sh\n");
}

static int
setup(void **state)
{
    (void)state;
    strcpy(base, "/tmp/promscale-unit-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int
teardown(void **state)
{
    const emb_user self = {.drop = false};
    (void)state;
    return emb_remove_tree(&self, base, NULL) == PS_OK ? 0 : -1;
}

static void
test_given_folder(void **state)
{
    char old[160], fine[160];
    emb_binaries b;
    ps_err err;
    (void)state;

    make_installation("fine", "17.2", fine);
    make_installation("old", "14.9", old);
    assert_int_equal(emb_find_binaries(fine, 0, &b, &err), PS_OK);
    assert_int_equal(b.major, 17);
    assert_string_equal(b.dir, fine);
    assert_false(b.has_extension);
    assert_int_equal(emb_find_binaries(fine, 17, &b, &err), PS_OK);
    assert_int_equal(emb_find_binaries(fine, 15, &b, &err), PS_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "made by PostgreSQL 15"));
    assert_non_null(strstr(err.text, "holds PostgreSQL 17"));
    assert_int_equal(emb_find_binaries(old, 0, &b, &err), PS_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "older than 15"));
    assert_int_equal(emb_find_binaries("/nowhere", 0, &b, &err), PS_EINVAL);
    assert_non_null(strstr(err.text, "/nowhere"));
    assert_int_equal(emb_find_binaries(fine, 14, &b, &err), PS_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "pg_dump"));
}

static void
test_extension_file_changes_the_stamp(void **state)
{
    char bin[160], path[200];
    emb_binaries without, with, again;
    ps_err err;
    (void)state;

    make_installation("ext", "15.20", bin);
    assert_int_equal(emb_find_binaries(bin, 0, &without, &err), PS_OK);
    snprintf(path, sizeof(path), "%s/ext/lib", base);
    assert_int_equal(mkdir(path, 0755), 0);
    make_script("ext/lib", "promscale.so", "first");
    assert_int_equal(emb_find_binaries(bin, 0, &with, &err), PS_OK);
    assert_true(with.has_extension);
    assert_true(with.stamp != without.stamp);
    assert_int_equal(emb_find_binaries(bin, 0, &again, &err), PS_OK);
    assert_true(with.stamp == again.stamp);
    snprintf(path, sizeof(path), "%s/ext/lib/promscale.so", base);
    emb_sleep_ms(20);
    assert_int_equal(unlink(path), 0);
    make_script("ext/lib", "promscale.so", "second");
    assert_int_equal(emb_find_binaries(bin, 0, &again, &err), PS_OK);
    assert_true(with.stamp != again.stamp);
}

static void
test_path_is_searched_for_the_major_of_the_data(void **state)
{
    char ninety[160], other[160], path[400];
    emb_binaries b;
    ps_err err;
    char *was = getenv("PATH") ? strdup(getenv("PATH")) : NULL;
    (void)state;

    make_installation("n98", "98.1", other);
    make_installation("n99", "99.1", ninety);
    snprintf(path, sizeof(path), "relative:%s:%s::/nowhere", other, ninety);
    setenv("PATH", path, 1);
    assert_int_equal(emb_find_binaries("", 99, &b, &err), PS_OK);
    assert_string_equal(b.dir, ninety);
    assert_int_equal(b.major, 99);
    assert_int_equal(emb_find_binaries("", 97, &b, &err), PS_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "made by PostgreSQL 97"));
    assert_non_null(strstr(err.text, "postgresql-97"));
    setenv("PATH", was ? was : "", 1);
    free(was);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_given_folder),
        cmocka_unit_test(test_extension_file_changes_the_stamp),
        cmocka_unit_test(test_path_is_searched_for_the_major_of_the_data),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
