/*
 * hash.c - XXH3 under our own names.
 *
 * The digest is an identity that is stored in the database, so it is XXH3-128 without a seed in its
 * canonical (big-endian) byte order: the same on every machine and in every version. It is not
 * cryptographic; whoever finds something by digest compares the source as well. The 64-bit hash
 * takes a secret seed, so that a client cannot choose labels that collide in our tables.
 *
 * The header-only form of the library is compiled in: nothing to link, and no way for another copy
 * of the library in the same process (a PostgreSQL backend loads many) to replace it.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/base/base.h"

_Static_assert(sizeof(XXH128_canonical_t) == sizeof(ps_digest), "a digest is 16 bytes");

ps_digest
ps_digest_of(ps_str s)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(s.len > 0 ? s.ptr : "", s.len));
    ps_digest digest;
    memcpy(digest.bytes, canonical.digest, sizeof digest.bytes);
    return digest;
}

bool
ps_digest_eq(const ps_digest *a, const ps_digest *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

uint64_t
ps_hash64(ps_str s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.len > 0 ? s.ptr : "", s.len, seed);
}

uint64_t
ps_xxh64(ps_str s)
{
    return XXH64(s.len > 0 ? s.ptr : "", s.len, 0);
}
