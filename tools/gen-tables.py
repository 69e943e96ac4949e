#!/usr/bin/env python3
"""Writes the constant tables of lib/base and lib/histogram from their definitions.

    tools/gen-tables.py pow10  > lib/base/pow10_table.c
    tools/gen-tables.py crc32c > lib/base/crc32c_table.c
    tools/gen-tables.py bounds > lib/histogram/bounds_table.c

The tables are committed; `tools/gen-tables.py --check` says whether they are what the definitions
give.
"""
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def log2_floor_of_pow10(k):
    if k >= 0:
        return (10 ** k).bit_length() - 1
    return -((10 ** -k - 1).bit_length())


def pow10():
    out = ["""/*
 * pow10_table.c - the first 128 bits of the powers of ten from 10^-342 to 10^324, cut, not rounded.
 * Written by tools/gen-tables.py; lib/base/internal.h has the definition.
 */
#include "lib/base/internal.h"

const ps_u128 ps_pow10[PS_POW10_MAX - PS_POW10_MIN + 1] = {"""]
    cells = []
    for k in range(-342, 325):
        fl = log2_floor_of_pow10(k)
        shift = 127 - fl
        if k >= 0:
            v = 10 ** k << shift if shift >= 0 else 10 ** k >> -shift
        else:
            v = (1 << shift) // 10 ** -k
        assert v >> 127 == 1
        assert fl == (k * 1741647) >> 19
        cells.append("{0x%016x, 0x%016x}" % (v >> 64, v & (1 << 64) - 1))
    for i in range(0, len(cells), 2):
        out.append("    " + ", ".join(cells[i:i + 2]) + ",")
    out.append("};")
    return "\n".join(out) + "\n"


def crc32c():
    table = [[0] * 256 for _ in range(8)]
    for i in range(256):
        c = i
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
        table[0][i] = c
    for t in range(1, 8):
        for i in range(256):
            c = table[t - 1][i]
            table[t][i] = c >> 8 ^ table[0][c & 0xFF]
    out = ["""/*
 * crc32c_table.c - table t, entry b: the CRC-32C state after byte b and t zero bytes.
 * Written by tools/gen-tables.py.
 */
#include "lib/base/internal.h"

const uint32_t ps_crc32c_table[8][256] = {"""]
    for row in table:
        out.append("    {")
        for i in range(0, 256, 8):
            out.append("     " + ", ".join("0x%08x" % c for c in row[i:i + 8]) + ",")
        out.append("    },")
    out.append("};")
    return "\n".join(out) + "\n"


def bounds():
    # Not the nearest doubles, but those that Prometheus has: products of repeated square roots, from
    # a root of two that is rounded down.
    roots = [float.fromhex("0x1.6a09e667f3bccp+0")]
    while len(roots) < 8:
        roots.append(math.sqrt(roots[-1]))
    cells = []
    for i in range(256):
        v = 0.5
        for bit, root in enumerate(roots):
            if i >> 7 - bit & 1:
                v *= root
        cells.append(repr(v))
    out = ["""/*
 * bounds_table.c - 2^(i/256 - 1), the bounds of exponential buckets between 0.5 and 1.
 * Written by tools/gen-tables.py.
 */
#include "lib/histogram/internal.h"

const double hst_fractions[256] = {"""]
    out += ["    %s," % c for c in cells]
    out.append("};")
    return "\n".join(out) + "\n"


TABLES = {"pow10": ("lib/base/pow10_table.c", pow10), "crc32c": ("lib/base/crc32c_table.c", crc32c),
          "bounds": ("lib/histogram/bounds_table.c", bounds)}


def main():
    if sys.argv[1:] == ["--check"]:
        bad = [p for p, f in TABLES.values() if (ROOT / p).read_text() != f()]
        for p in bad:
            print(p + ": is not what tools/gen-tables.py writes")
        return 1 if bad else 0
    if len(sys.argv) != 2 or sys.argv[1] not in TABLES:
        print(__doc__, file=sys.stderr)
        return 2
    sys.stdout.write(TABLES[sys.argv[1]][1]())
    return 0


sys.exit(main())
