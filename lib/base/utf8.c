/*
 * utf8.c - strict UTF-8: what PostgreSQL's text accepts (U+0000 apart, which callers refuse
 * themselves) and what Prometheus allows in names.
 *
 * Labels are nearly always ASCII, so eight bytes at a time are tested first; everything else goes
 * through one table row per class of lead byte: how many bytes follow, and the range that the first
 * of them must lie in. That range is what excludes overlong forms, surrogates and values over
 * U+10FFFF; the remaining bytes are plain continuation bytes.
 */
#include "lib/base/base.h"

/* Number of bytes of the character that starts at p (1..4), 0 if it is malformed or cut. */
static size_t
character_length(const unsigned char *p, size_t left)
{
    unsigned char lead = p[0];
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    size_t n;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF) {
        n = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        n = 3;
        if (lead == 0xE0)
            low = 0xA0;
        else if (lead == 0xED)
            high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        n = 4;
        if (lead == 0xF0)
            low = 0x90;
        else if (lead == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (left < n || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return n;
}

bool
ps_utf8_valid(ps_str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    size_t left = s.len;
    while (left > 0) {
        if (left >= 8 && (ps_get_u64le(p) & UINT64_C(0x8080808080808080)) == 0) {
            p += 8;
            left -= 8;
            continue;
        }
        size_t n = character_length(p, left);
        if (n == 0)
            return false;
        p += n;
        left -= n;
    }
    return true;
}

size_t
ps_utf8_prefix(ps_str s, size_t max)
{
    if (s.len <= max)
        return s.len;
    /* s.ptr[max] exists. Step back to the start of its character, at most three bytes: in text that
     * is not UTF-8 any cut is as good as another. */
    size_t cut = max;
    for (size_t back = 0; back < 3 && cut > 0; back++) {
        if (((unsigned char)s.ptr[cut] & 0xC0) != 0x80)
            return cut;
        cut--;
    }
    return ((unsigned char)s.ptr[cut] & 0xC0) != 0x80 ? cut : max;
}
