#include "identity.h"

#include <string.h>

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

/* One byte that no text holds is counted after each, so that nothing can move from one text to the other. */
static uint64_t hash_text(uint64_t hash, const char *s)
{
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r\n", s[n - 1]))
        n--;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)s[i]) * FNV_PRIME;
    return (hash ^ 0xff) * FNV_PRIME;
}

uint64_t sw_identity_of(const char *dot_h, const char *cflags)
{
    const uint64_t hash = hash_text(hash_text(FNV_OFFSET, dot_h), cflags);
    return hash != 0 ? hash : 1;
}
