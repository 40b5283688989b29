/* Build time: prints uwsgi_identity.h for the uWSGI whose header and flags are in the two files given. */
#include "identity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX_BYTES ((size_t)4 * 1024 * 1024)

/* the whole file with a zero behind it, or NULL */
static char *read_text(const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = f ? malloc(TEXT_MAX_BYTES + 1) : NULL;
    const size_t n = text ? fread(text, 1, TEXT_MAX_BYTES, f) : 0;
    if (f)
        fclose(f);
    if (n == 0 || n == TEXT_MAX_BYTES) {
        fprintf(stderr, "%s: empty, too long or not readable (%s)\n", path, strerror(errno));
        free(text);
        return NULL;
    }
    text[n] = 0;
    return text;
}

int main(int argc, char **argv)
{
    char *dot_h = argc == 3 ? read_text(argv[1]) : NULL;
    char *cflags = argc == 3 ? read_text(argv[2]) : NULL;
    const int rc = dot_h && cflags ? 0 : 1;
    if (rc == 0)
        printf("/* generated: the uWSGI that this build is for */\n"
               "#define SW_UWSGI_VERSION UWSGI_VERSION\n"
               "#define SW_UWSGI_IDENTITY UINT64_C(0x%016" PRIx64 ")\n",
               sw_identity_of(dot_h, cflags));
    free(dot_h);
    free(cflags);
    return rc;
}
