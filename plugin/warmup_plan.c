#include "warmup_plan.h"

#include "config_value.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define BLANKS "\t "
/* what RFC 9110 calls a token: method and header names */
#define TOKEN           "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define VARIABLE_PREFIX "HTTP_"
#define PORT_DEFAULT    "80"
#define PORT_MAX        65535

#define FRAME_BYTES    4 /* modifier1, size, modifier2 */
#define LENGTH_MAX     UINT16_MAX
#define PAUSE_FIRST_NS SW_NS_PER_SEC
#define PAUSE_MOST_NS  (10 * SW_NS_PER_SEC)

/* ---- options ---- */

static bool is_uri(const char *s)
{
    if (s[0] != '/')
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 0x7f || *s == '#')
            return false;
    return true;
}

const char *sw_warmup_add_hit(struct sw_warmup_plan *plan, const char *value)
{
    static const char expected[] = "expected [METHOD] PATH, like \"/\" or \"HEAD /shop/?page=1\"";
    struct sw_warmup_hit hit = {"GET", value + strspn(value, BLANKS)};
    if (hit.uri[0] != '/') {
        const size_t n = strspn(hit.uri, TOKEN);
        const size_t blanks = strspn(hit.uri + n, BLANKS);
        if (n == 0 || n > SW_WARMUP_METHOD_CHARS || blanks == 0)
            return expected;
        memcpy(hit.method, hit.uri, n);
        hit.method[n] = 0;
        hit.uri += n + blanks;
    }
    if (!is_uri(hit.uri))
        return expected;
    if (plan->hit_count == SW_WARMUP_HITS_MAX)
        return "too many requests to warm up with, the limit is 32";
    plan->hits[plan->hit_count++] = hit;
    return NULL;
}
_Static_assert(SW_WARMUP_HITS_MAX == 32 && SW_WARMUP_HEADERS_MAX == 32, "the limits are in the messages");

/* "X-Forwarded-Proto" becomes HTTP_X_FORWARDED_PROTO; content type and length have no prefix. */
static bool put_variable(char variable[SW_WARMUP_VARIABLE_CHARS + 1], const char *name, size_t n)
{
    static const char bare[] = "CONTENT_TYPE";
    char *at = variable + strlen(VARIABLE_PREFIX);
    if (n == 0 || n > SW_WARMUP_VARIABLE_CHARS - strlen(VARIABLE_PREFIX))
        return false;
    memcpy(variable, VARIABLE_PREFIX, strlen(VARIABLE_PREFIX));
    for (size_t i = 0; i < n; i++)
        at[i] = (char)(name[i] == '-' ? '_' : toupper((unsigned char)name[i]));
    at[n] = 0;
    if (strcmp(at, bare) == 0)
        memcpy(variable, bare, sizeof bare);
    return true;
}

/* What the request itself decides. */
static bool is_own(const char *variable)
{
    static const char *const own[] = {"HTTP_HOST", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"};
    return sw_value_is_one_of(variable, own, SW_COUNT(own));
}

const char *sw_warmup_add_header(struct sw_warmup_plan *plan, const char *value)
{
    struct sw_warmup_header header;
    const size_t n = strspn(value, TOKEN);
    if (value[n] != ':' || !put_variable(header.variable, value, n) || !sw_value_is_printable(value))
        return "expected NAME: VALUE, like \"X-Forwarded-Proto: https\"";
    if (is_own(header.variable))
        return "this header is made by the warm-up itself; the host has an option of its own, "
               "slowwatch-warmup-host";
    header.value = value + n + 1 + strspn(value + n + 1, BLANKS);
    for (unsigned i = 0; i < plan->header_count; i++) {
        if (strcmp(plan->headers[i].variable, header.variable) == 0) {
            plan->headers[i] = header;
            return NULL;
        }
    }
    if (plan->header_count == SW_WARMUP_HEADERS_MAX)
        return "too many headers, the limit is 32";
    plan->headers[plan->header_count++] = header;
    return NULL;
}

const char *sw_warmup_set_host(struct sw_warmup_plan *plan, const char *value)
{
    const size_t n = strcspn(value, ":");
    uint64_t port;
    if (!sw_value_is_host(value, n) ||
        (value[n] && !sw_value_digits(value + n + 1, strlen(value + n + 1), PORT_MAX, &port)))
        return "expected HOST or HOST:PORT, like \"www.example.org\"";
    plan->host = value;
    return NULL;
}

/* ---- the request ---- */

struct packet {
    char *at;
    size_t used, room;
    bool full;
};

static void put_bytes(struct packet *p, const void *bytes, size_t n)
{
    if (n > p->room - p->used) {
        p->full = true;
        return;
    }
    memcpy(p->at + p->used, bytes, n);
    p->used += n;
}

static void put_length(struct packet *p, size_t n)
{
    const unsigned char little_endian[] = {(unsigned char)(n & 0xff), (unsigned char)(n >> 8)};
    put_bytes(p, little_endian, sizeof little_endian);
    p->full = p->full || n > LENGTH_MAX;
}

static void put_pair(struct packet *p, const char *name, const char *value, size_t n)
{
    put_length(p, strlen(name));
    put_bytes(p, name, strlen(name));
    put_length(p, n);
    put_bytes(p, value, n);
}

static void put_text(struct packet *p, const char *name, const char *value)
{
    put_pair(p, name, value, strlen(value));
}

static int digit_of(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* PATH_INFO is the path with %41 made A; what is no such code stays as it is. It is decoded where it lies. */
static void put_path(struct packet *p, const char *path, size_t n)
{
    put_pair(p, "PATH_INFO", path, n);
    if (p->full)
        return;
    char *const begin = p->at + p->used - n, *to = begin;
    for (const char *s = begin, *end = begin + n; s < end; s++) {
        const int high = *s == '%' && end - s > 2 ? digit_of(s[1]) : -1;
        const int low = high >= 0 ? digit_of(s[2]) : -1;
        *to++ = low >= 0 ? (char)(high * 16 + low) : *s;
        s += low >= 0 ? 2 : 0;
    }
    const size_t decoded = (size_t)(to - begin);
    p->used -= n + sizeof(uint16_t);
    put_length(p, decoded);
    p->used += decoded;
}

static void put_host(struct packet *p, const char *host)
{
    const size_t n = strcspn(host, ":");
    put_text(p, "HTTP_HOST", host);
    put_pair(p, "SERVER_NAME", host, n);
    put_text(p, "SERVER_PORT", host[n] ? host + n + 1 : PORT_DEFAULT);
}

static void put_headers(struct packet *p, const struct sw_warmup_plan *plan)
{
    static const char agent[] = VARIABLE_PREFIX "USER_AGENT";
    bool has_agent = false;
    for (unsigned i = 0; i < plan->header_count; i++) {
        put_text(p, plan->headers[i].variable, plan->headers[i].value);
        has_agent = has_agent || strcmp(plan->headers[i].variable, agent) == 0;
    }
    if (!has_agent)
        put_text(p, agent, SW_WARMUP_USER_AGENT);
}

ssize_t sw_warmup_packet(const struct sw_warmup_plan *plan, const struct sw_warmup_hit *hit, char *out,
                         size_t room)
{
    struct packet p = {out, 0, room, false};
    const char frame[FRAME_BYTES] = {0};
    const size_t path = strcspn(hit->uri, "?");
    put_bytes(&p, frame, sizeof frame);
    put_text(&p, "REQUEST_METHOD", hit->method);
    put_text(&p, "REQUEST_URI", hit->uri);
    put_path(&p, hit->uri, path);
    put_text(&p, "QUERY_STRING", hit->uri[path] ? hit->uri + path + 1 : "");
    put_text(&p, "SCRIPT_NAME", "");
    put_text(&p, "SERVER_PROTOCOL", "HTTP/1.1");
    put_text(&p, "REMOTE_ADDR", "127.0.0.1");
    put_text(&p, "CONTENT_LENGTH", "");
    put_host(&p, plan->host);
    put_headers(&p, plan);
    const size_t size = p.used - FRAME_BYTES;
    if (p.full || size > LENGTH_MAX)
        return -EMSGSIZE;
    out[1] = (char)(size & 0xff);
    out[2] = (char)(size >> 8);
    return (ssize_t)p.used;
}

/* ---- the response ---- */

void sw_warmup_location(const char *head, size_t n, struct sw_text *out)
{
    static const char name[] = "\nlocation:";
    const size_t name_chars = sizeof name - 1;
    for (size_t i = 0; i + name_chars <= n; i++) {
        if (head[i] == '\n' && i + 2 < n && head[i + 1] == '\r')
            return; /* the body begins */
        if (strncasecmp(head + i, name, name_chars) != 0)
            continue;
        size_t begin = i + name_chars, end;
        while (begin < n && head[begin] == ' ')
            begin++;
        for (end = begin; end < n && !strchr("\r\n?", head[end]);)
            end++;
        sw_text_put_escaped(out, head + begin, end - begin);
        sw_text_put(out, end < n && head[end] == '?' ? "?…" : "");
        return;
    }
}

/* ---- attempts ---- */

bool sw_warmup_gives_up(const struct sw_warmup_plan *plan, unsigned failed)
{
    return !plan->required && failed >= SW_WARMUP_ATTEMPTS;
}

uint64_t sw_warmup_pause_ns(unsigned failed)
{
    uint64_t pause_ns = failed > 0 ? PAUSE_FIRST_NS : 0;
    while (failed-- > 1 && pause_ns < PAUSE_MOST_NS)
        pause_ns *= 2;
    return sw_min_u64(pause_ns, PAUSE_MOST_NS);
}
