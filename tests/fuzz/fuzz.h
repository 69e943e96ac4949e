/*
 * fuzz.h - what every fuzz target has: its entry, and a check that no build leaves out.
 */
#ifndef PROMSCALE_TESTS_FUZZ_H
#define PROMSCALE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts, which libFuzzer and the replay both take for a finding. */
#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

#endif
