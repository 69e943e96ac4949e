/*
 * replay.c - the main() of every fuzz target outside of MODE=fuzz: runs the target once over each
 * file given, and over each file in each folder given, and prints how many there were. No input is a
 * failure: a corpus that is not found must not look like one that passed.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static int
replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size == 0 ? 1 : size);
    int failed = file == NULL || data == NULL || fread(data, 1, size, file) != size;
    if (file != NULL)
        fclose(file);
    if (failed)
        fprintf(stderr, "%s: cannot be read\n", path);
    else
        LLVMFuzzerTestOneInput(data, size);
    free(data);
    return failed;
}

/* Returns the number of failures; counts inputs. */
static int
replay(const char *path, long *inputs)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        fprintf(stderr, "%s: not found\n", path);
        return 1;
    }
    if (!S_ISDIR(st.st_mode)) {
        (*inputs)++;
        return replay_file(path, (size_t)st.st_size);
    }
    DIR *dir = opendir(path);
    if (dir == NULL) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        return 1;
    }
    int failed = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char inner[4096];
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        failed += n < 0 || n >= (int)sizeof inner ? 1 : replay(inner, inputs);
    }
    closedir(dir);
    return failed;
}

int
main(int argc, char **argv)
{
    long inputs = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed += replay(argv[i], &inputs);
    printf("%ld inputs\n", inputs);
    return failed != 0 || inputs == 0;
}
