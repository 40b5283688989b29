#include "nearest.h"

#include <string.h>

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned sw_nearest_edits(const char *a, const char *b, unsigned most)
{
    const size_t m = strlen(a), n = strlen(b);
    if (m > SW_NEAREST_CHARS_MAX || n > SW_NEAREST_CHARS_MAX)
        return most + 1;
    /* row[i][j]: the edits between the first i letters of a and the first j of b; three rows are enough, as a swap
     * looks back two */
    unsigned rows[3][SW_NEAREST_CHARS_MAX + 1];
    unsigned *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= m; i++) {
        unsigned *const oldest = before;
        before = last;
        last = row;
        row = oldest;
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n; j++) {
            const unsigned replaced = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = least(replaced, least(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
    }
    return least(row[n], most + 1);
}

int sw_nearest(const char *name, const char *const known[], unsigned count, unsigned most)
{
    int found = -1;
    for (unsigned i = 0; i < count; i++) {
        const unsigned edits = sw_nearest_edits(name, known[i], most);
        if (edits > most)
            continue;
        found = (int)i;
        if (edits == 0)
            break;
        most = edits - 1; /* only a nearer one is better */
    }
    return found;
}
