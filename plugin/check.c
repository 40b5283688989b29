#include "check.h"

#include "doctor_facts.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uwsgi.h>

extern struct uwsgi_server uwsgi;

#define HOOK "slowwatch-check"

static void (*attach_python)(struct sw_host_facts *facts);

static void print_line(const char *before, const char *line)
{
    char bytes[2 * SW_CONFIG_SUMMARY_MAX];
    struct sw_text t;
    sw_text_init(&t, bytes, sizeof bytes);
    sw_text_put_escaped(&t, line, strlen(line));
    printf("%s%s\n", before, bytes);
}

static void print_finding(const char *line)
{
    print_line(strncmp(line, "note: ", strlen("note: ")) == 0 ? "" : "conflict: ", line);
}

/* Files are looked at with the rights and from the folder that a worker will have. 0 or -errno. */
static int be_like_a_worker(void)
{
    if (uwsgi.chdir && chdir(uwsgi.chdir) < 0)
        return -errno;
    if (getuid() != 0)
        return 0;
    const struct passwd *user = uwsgi.uidname ? getpwnam(uwsgi.uidname) : getpwuid(uwsgi.uid);
    const struct group *group = uwsgi.gidname ? getgrnam(uwsgi.gidname) : NULL;
    if ((uwsgi.uidname && !user) || (uwsgi.gidname && !group))
        return -ENOENT;
    const uid_t uid = uwsgi.uidname ? user->pw_uid : uwsgi.uid;
    const gid_t gid = uwsgi.gidname ? group->gr_gid : uwsgi.gid;
    const bool with_groups = user && uid != 0 && !uwsgi.no_initgroups;
    if (gid != 0 &&
        (setgid(gid) < 0 || (with_groups ? initgroups(user->pw_name, gid) : setgroups(0, NULL)) < 0))
        return -errno;
    return uid != 0 && setuid(uid) < 0 ? -errno : 0;
}

static int check(char *argument)
{
    (void)argument;
    if (!sw_config.check)
        return 0;
    const int rc = be_like_a_worker();
    if (rc < 0)
        printf("note: files are looked at as uid %u in this folder, not as a worker would: %s\n",
               (unsigned)geteuid(), strerror(-rc));
    struct sw_host_facts facts = {0};
    sw_host_facts_gather(&facts, &sw_config);
    attach_python(&facts);
    const struct sw_diagnosis found = sw_doctor_examine(&sw_config, &facts, print_finding);
    char bytes[SW_CONFIG_SUMMARY_MAX];
    struct sw_text summary;
    sw_text_init(&summary, bytes, sizeof bytes);
    sw_config_summary(&sw_config, &facts, &summary);
    print_line("", bytes);
    printf("%u conflict%s, %u note%s\n", found.conflicts, found.conflicts == 1 ? "" : "s", found.notes,
           found.notes == 1 ? "" : "s");
    const bool printed = fflush(stdout) == 0 && !ferror(stdout);
    _exit(printed && found.conflicts == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

void sw_check_arrange(void (*attach)(struct sw_host_facts *facts))
{
    if (attach_python)
        return;
    attach_python = attach;
    uwsgi_register_hook((char *)HOOK, check);
    /* in front: the user's own hooks of that moment do something, and must not */
    struct uwsgi_string_list *first = NULL;
    uwsgi_string_new_list(&first, uwsgi_str((char *)HOOK ":"));
    first->next = uwsgi.hook_asap;
    uwsgi.hook_asap = first;
}
