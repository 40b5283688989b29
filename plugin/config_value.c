#include "config_value.h"

#include <errno.h>
#include <string.h>

#define DIGITS_MAX        32 /* more than any time in range needs */
#define ADDRESS_CHARS_MAX 254
#define LOCAL_CHARS_MAX   64
#define HOST_CHARS_MAX    253
#define LABEL_CHARS_MAX   63
#define ALNUM             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define LOCAL_PART        ALNUM "!#$%&'*+-/=?^_`{|}~."

/* ---- numbers ---- */

bool sw_value_digits(const char *s, size_t n, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (n == 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        const uint64_t digit = (uint64_t)(s[i] - '0');
        if (digit > max || value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

int sw_value_seconds(const char *s, size_t n, uint64_t *ns)
{
    if (n > DIGITS_MAX)
        return -EINVAL;
    const char *point = memchr(s, '.', n);
    const size_t whole_chars = point ? (size_t)(point - s) : n;
    uint64_t seconds, fraction_ns = 0;
    if (!sw_value_digits(s, whole_chars, SW_SECONDS_MAX_NS / SW_NS_PER_SEC, &seconds))
        return -EINVAL;
    if (point && whole_chars + 1 == n)
        return -EINVAL;
    /* digits after the ninth are below a nanosecond, but digits they must be */
    uint64_t unit_ns = SW_NS_PER_SEC / 10;
    for (size_t i = whole_chars + 1; i < n; i++, unit_ns /= 10) {
        if (s[i] < '0' || s[i] > '9')
            return -EINVAL;
        fraction_ns += (uint64_t)(s[i] - '0') * unit_ns;
    }
    const uint64_t sum = seconds * SW_NS_PER_SEC + fraction_ns;
    if (sum > SW_SECONDS_MAX_NS)
        return -EINVAL;
    *ns = sum;
    return 0;
}

void sw_value_put_seconds(struct sw_text *out, uint64_t ns)
{
    sw_text_printf(out, "%llu", (unsigned long long)(ns / SW_NS_PER_SEC));
    uint64_t rest = ns % SW_NS_PER_SEC;
    if (rest > 0)
        sw_text_put_char(out, '.');
    for (uint64_t unit = SW_NS_PER_SEC / 10; rest > 0; rest %= unit, unit /= 10)
        sw_text_put_char(out, (char)('0' + rest / unit));
}

const char *sw_value_seconds_text(char buffer[SW_SECONDS_CHARS_MAX], uint64_t ns)
{
    struct sw_text t;
    sw_text_init(&t, buffer, SW_SECONDS_CHARS_MAX);
    sw_value_put_seconds(&t, ns);
    return buffer;
}

/* ---- words ---- */

bool sw_value_is_host(const char *s, size_t n)
{
    size_t label = 0;
    if (n == 0 || n > HOST_CHARS_MAX || s[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.' && label > 0)
            label = 0;
        else if (s[i] != 0 && strchr(ALNUM "-_", s[i]) && label < LABEL_CHARS_MAX)
            label++;
        else
            return false;
    }
    return label > 0;
}

bool sw_value_is_address(const char *s)
{
    const size_t n = strlen(s), local = strspn(s, LOCAL_PART);
    if (n > ADDRESS_CHARS_MAX || local == 0 || local > LOCAL_CHARS_MAX || s[local] != '@')
        return false;
    if (s[0] == '.' || s[local - 1] == '.' || strstr(s, ".."))
        return false;
    return sw_value_is_host(s + local + 1, n - local - 1);
}

bool sw_value_is_one_of(const char *value, const char *const words[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(value, words[i]) == 0)
            return true;
    return false;
}

bool sw_value_bool(const char *value, bool *out)
{
    static const char *const yes[] = {"true", "1", "yes", "on"}, *const no[] = {"false", "0", "no", "off"};
    if (sw_value_is_one_of(value, yes, SW_COUNT(yes)))
        *out = true;
    else if (sw_value_is_one_of(value, no, SW_COUNT(no)))
        *out = false;
    else
        return false;
    return true;
}

bool sw_value_choice(const char *words, const char *value, unsigned *out)
{
    unsigned position = 0;
    for (const char *word = words;; position++) {
        const size_t n = strcspn(word, "|");
        if (strlen(value) == n && memcmp(word, value, n) == 0) {
            *out = position;
            return true;
        }
        if (word[n] == 0)
            return false;
        word += n + 1;
    }
}

bool sw_value_is_printable(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    return true;
}
