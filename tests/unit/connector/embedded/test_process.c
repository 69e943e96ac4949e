/*
 * test_process.c - children: output kept, exit codes told, nothing of ours inherited, found and signalled
 * by the folder that they stand in.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connector/embedded/internal.h"
#include "tests/unit/support.h"

static const emb_user self = {.drop = false};

static void
test_output_and_exit_code(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "echo out; echo err >&2; exit 7", NULL};
    char tail[64];
    int code = -1;
    ps_err err;
    (void)state;

    assert_int_equal(emb_run(&self, argv, tail, sizeof(tail), &code, &err), PS_OK);
    assert_int_equal(code, 7);
    assert_string_equal(tail, "out\nerr\n");
}

static void
test_only_the_end_of_long_output_is_kept(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c",
                                "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done",
                                NULL};
    char tail[32];
    int code = -1;
    ps_err err;
    (void)state;

    assert_int_equal(emb_run(&self, argv, tail, sizeof(tail), &code, &err), PS_OK);
    assert_int_equal(strlen(tail), sizeof(tail) - 1);
    assert_string_equal(tail + strlen(tail) - strlen("line 1998\nline 1999\n"),
                        "line 1998\nline 1999\n");
}

static void
test_program_that_is_not_there(void **state)
{
    const char *const argv[] = {"/no/such/program", NULL};
    char tail[32];
    int code = 0;
    ps_err err;
    (void)state;

    assert_int_equal(emb_run(&self, argv, tail, sizeof(tail), &code, &err), PS_OK);
    assert_int_equal(code, 127);
}

static void
test_killed_child(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
    char tail[32];
    int code = 0;
    ps_err err;
    (void)state;

    assert_int_equal(emb_run(&self, argv, tail, sizeof(tail), &code, &err), PS_OK);
    assert_int_equal(code, 128 + SIGKILL);
}

static void
test_nothing_is_inherited(void **state)
{
    /* an open file, a variable, an ignored signal, a blocked one */
    const char *const argv[] = {"/bin/sh", "-c",
                                "ls /proc/self/fd | tr '\\n' ' '; echo \"[$SECRET]\"; "
                                "grep -E 'SigBlk|SigIgn' /proc/self/status",
                                NULL};
    char tail[256];
    int code = -1;
    sigset_t set, before;
    ps_err err;
    (void)state;

    int fd = open("/dev/null", O_RDONLY);
    assert_true(fd >= 3);
    setenv("SECRET", "x", 1);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &before);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(emb_run(&self, argv, tail, sizeof(tail), &code, &err), PS_OK);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    close(fd);
    assert_int_equal(code, 0);
    assert_non_null(strstr(tail, "0 1 2 3 [")); /* 3 is ls's own */
    assert_non_null(strstr(tail, "[]"));
    assert_non_null(strstr(tail, "SigBlk:\t0000000000000000"));
    /* 32 and 33 are the C library's own, which it lets nobody set; make leaves them ignored */
    const char *ignored = strstr(tail, "SigIgn:\t");
    assert_non_null(ignored);
    assert_int_equal(strtoull(ignored + 8, NULL, 16) & ~0x180000000ULL, 0);
}

static void
test_ignored_sigchld(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "exit 7", NULL};
    char tail[64];
    int code = -1;
    ps_err err;
    (void)state;

    /* so a careless parent may have started us: then there is no exit code to wait for */
    signal(SIGCHLD, SIG_IGN);
    emb_expect_children();
    assert_int_equal(emb_run(&self, argv, tail, sizeof(tail), &code, &err), PS_OK);
    assert_int_equal(code, 7);
}

static void
test_session_of_its_own(void **state)
{
    const char *const argv[] = {"/bin/sleep", "30", NULL};
    emb_command c = {.user = &self, .argv = argv, .cwd = "", .out_fd = 2, .own_session = true};
    pid_t pid = 0;
    int status = 0;
    ps_err err;
    (void)state;

    assert_int_equal(emb_spawn(&c, &pid, &err), PS_OK);
    for (int i = 0; i < 200 && getsid(pid) != pid; i++)
        emb_sleep_ms(10);
    assert_int_equal(getsid(pid), pid);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void
test_root_becomes_somebody_else(void **state)
{
    const char *const argv[] = {"/usr/bin/id", "-u", NULL};
    const emb_user nobody = {.uid = 65534, .gid = 65534, .name = "nobody", .drop = true};
    char tail[64];
    int code = -1;
    ps_err err;
    (void)state;

    if (geteuid() != 0) {
        print_message("# only root can become somebody else\n");
        skip();
    }
    assert_int_equal(emb_run(&nobody, argv, tail, sizeof(tail), &code, &err), PS_OK);
    assert_string_equal(tail, "65534\n");
    assert_true(emb_can_enter(&nobody, "/tmp"));
    assert_false(emb_can_enter(&nobody, "/proc/1/fd"));
    assert_true(emb_can_write(&nobody, "/tmp"));
    assert_false(emb_can_write(&nobody, "/usr"));
}

static void
test_processes_are_found_by_folder(void **state)
{
    char folder[] = "/tmp/promscale-unit-XXXXXX";
    char program[64];
    char tail[64];
    int code = -1;
    pid_t server = 0, other = 0;
    int status = 0;
    ps_err err;
    (void)state;

    /* a program called "postgres" and one that is not, both standing in the folder */
    assert_non_null(mkdtemp(folder));
    snprintf(program, sizeof(program), "%s/postgres", folder);
    const char *const copy[] = {"/bin/cp", "/bin/sleep", program, NULL};
    assert_int_equal(emb_run(&self, copy, tail, sizeof(tail), &code, &err), PS_OK);
    assert_int_equal(code, 0);
    assert_int_equal(emb_scan(&self, folder, 0, 0), 0);
    const char *const server_argv[] = {program, "30", NULL};
    const char *const other_argv[] = {"/bin/sleep", "30", NULL};
    emb_command c = {.user = &self, .argv = server_argv, .cwd = folder, .out_fd = 2};
    assert_int_equal(emb_spawn(&c, &server, &err), PS_OK);
    c.argv = other_argv;
    assert_int_equal(emb_spawn(&c, &other, &err), PS_OK);
    for (int i = 0; i < 200 && emb_scan(&self, folder, 0, 0) == 0; i++)
        emb_sleep_ms(10);
    assert_int_equal(emb_scan(&self, folder, 0, 0), 1);
    assert_int_equal(emb_scan(&self, folder, server, 0), 1);
    assert_int_equal(emb_scan(&self, folder, other, 0), 0);
    assert_int_equal(emb_scan(&self, "/", server, 0), 0);
    assert_int_equal(emb_scan(&self, folder, 0, SIGKILL), 1);
    assert_int_equal(waitpid(server, &status, 0), server);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(emb_scan(&self, folder, 0, 0), 0);
    assert_int_equal(waitpid(other, &status, WNOHANG), 0);
    kill(other, SIGKILL);
    assert_int_equal(waitpid(other, &status, 0), other);

    assert_int_equal(emb_remove_tree(&self, folder, &err), PS_OK);
    assert_int_equal(access(folder, F_OK), -1);
    assert_int_equal(emb_remove_tree(&self, folder, &err), PS_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_and_exit_code),
        cmocka_unit_test(test_only_the_end_of_long_output_is_kept),
        cmocka_unit_test(test_program_that_is_not_there),
        cmocka_unit_test(test_killed_child),
        cmocka_unit_test(test_nothing_is_inherited),
        cmocka_unit_test(test_ignored_sigchld),
        cmocka_unit_test(test_session_of_its_own),
        cmocka_unit_test(test_root_becomes_somebody_else),
        cmocka_unit_test(test_processes_are_found_by_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
