/* Prints the option table as Markdown, for docs/options.md. */
#include "config.h"
#include "config_value.h"

#include <stdio.h>

#define CELL_MAX_BYTES 512

/* a | would end the cell */
static void print_cell(const char *s)
{
    for (; *s; s++)
        printf("%s%c", *s == '|' ? "\\" : "", *s);
}

static void print_range(const struct sw_option *o)
{
    char text[CELL_MAX_BYTES];
    struct sw_text range;
    sw_text_init(&range, text, sizeof(text));
    switch (o->type) {
    case SW_OPT_THRESHOLD:
        sw_text_put(&range, "0, ");
        /* fall through */
    case SW_OPT_SECONDS:
        sw_value_put_seconds(&range, o->min);
        sw_text_put(&range, " to ");
        sw_value_put_seconds(&range, o->max);
        break;
    case SW_OPT_MS:
    case SW_OPT_COUNT: {
        const uint64_t unit = o->type == SW_OPT_MS ? SW_NS_PER_MS : 1;
        sw_text_printf(&range, "%llu to %llu", (unsigned long long)(o->min / unit),
                       (unsigned long long)(o->max / unit));
        break;
    }
    default:
        return;
    }
    printf(" (%s)", text);
}

int main(void)
{
    puts("| option | default | meaning |\n| --- | --- | --- |");
    for (unsigned i = 0; i < sw_option_count; i++) {
        const struct sw_option *o = &sw_options[i];
        printf("| `%s` ", o->name);
        print_cell(o->argument);
        printf("%s | %s | ", o->repeatable ? ", repeatable" : "", o->fallback[0] ? o->fallback : "–");
        print_cell(o->help);
        print_range(o);
        puts(" |");
    }
    return 0;
}
