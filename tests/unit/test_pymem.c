/* Every backend: good memory arrives, bad memory is an error, alone and gathered; and what opening must not do. */
#include "unit.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pymem.h"

#define OK(c)      assert_true(c)
#define PAGE       ((size_t)4096)
#define PAGES      20U
#define CHILD_FAIL 1

/* Readable pages with a hole behind and one amid: pages 0 to 9, and 11 to 19. */
static char *pages;

static int set_up(void **state)
{
    (void)state;
    pages = mmap(NULL, (PAGES + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return -1;
    for (size_t i = 0; i < PAGES * PAGE; i++)
        pages[i] = (char)(i * 31 + i / 251);
    return munmap(pages + 10 * PAGE, PAGE) || mprotect(pages + PAGES * PAGE, PAGE, PROT_NONE);
}

static void reads(enum sw_pymem_backend backend)
{
    static char out[SW_PYMEM_WINDOW_BYTES];
    struct sw_pymem m;
    assert_int_equal(sw_pymem_open(&m, backend), 0);
    assert_int_equal(m.backend, backend);
    OK(sw_pymem_read(&m, (uintptr_t)pages + 5, out, 100) == 0 && memcmp(out, pages + 5, 100) == 0);
    OK(sw_pymem_read(&m, (uintptr_t)pages + 1, out, 9 * PAGE) == 0 && memcmp(out, pages + 1, 9 * PAGE) == 0);
    OK(sw_pymem_read(&m, (uintptr_t)pages + 10 * PAGE - 8, out, 8) == 0);
    OK(sw_pymem_read(&m, 0, out, 0) == 0);
    /* holes: none of it, the end of it, all of the address space */
    assert_int_equal(sw_pymem_read(&m, (uintptr_t)pages + 10 * PAGE, out, 1), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, (uintptr_t)pages + 10 * PAGE - 8, out, 9), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, (uintptr_t)pages, out, 12 * PAGE), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, (uintptr_t)pages + PAGES * PAGE, out, 8), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, 0, out, 8), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, UINTPTR_MAX - 3, out, 8), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, (uintptr_t)1 << 63, out, 8), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, 0xdead000000000000, out, 8), -EFAULT);
    assert_int_equal(sw_pymem_read(&m, (uintptr_t)pages, out, SW_PYMEM_WINDOW_BYTES + 1), -EINVAL);
    /* and a failed read leaves nothing behind for the next */
    OK(sw_pymem_read(&m, (uintptr_t)pages + 7, out, 20) == 0 && memcmp(out, pages + 7, 20) == 0);
    sw_pymem_close(&m);
    sw_pymem_close(&m);
    assert_int_equal(sw_pymem_read(&m, (uintptr_t)pages, out, 1), -ENOTCONN);
}

/* What a plain loop of single reads would say. */
static void gathers(enum sw_pymem_backend backend)
{
    enum { RANGES = 3000, BYTES = 700 };
    struct sw_pymem_range *r = calloc(RANGES, sizeof *r);
    char *out = malloc((size_t)RANGES * BYTES);
    struct sw_pymem m;
    OK(r && out && sw_pymem_open(&m, backend) == 0);
    srand((unsigned)backend);
    for (unsigned round = 0; round < 5; round++) {
        unsigned good = 0;
        for (unsigned i = 0; i < RANGES; i++) {
            const size_t from = (size_t)rand() % (round < 2 ? 9 * PAGE : PAGES * PAGE);
            const size_t bytes = (size_t)(rand() % BYTES);
            const bool bad = round > 0 && rand() % 20 == 0;
            r[i] = (struct sw_pymem_range){
                bad ? (rand() % 2 ? (uintptr_t)(rand() % 4000) : UINTPTR_MAX - (uintptr_t)(rand() % 4000))
                    : (uintptr_t)pages + from,
                out + (size_t)i * BYTES, bytes, rand() % 2 == 0};
        }
        const unsigned arrived = sw_pymem_read_ranges(&m, r, RANGES);
        for (unsigned i = 0; i < RANGES; i++) {
            char alone[BYTES];
            const bool ok = sw_pymem_read(&m, r[i].address, alone, r[i].bytes) == 0;
            OK(r[i].ok == ok);
            OK(!ok || memcmp(alone, r[i].out, r[i].bytes) == 0);
            good += ok;
        }
        assert_int_equal(arrived, good);
        OK(good > 0 && (round == 0 || good < RANGES));
    }
    struct sw_pymem_range large[] = {
        {(uintptr_t)pages, out, SW_PYMEM_WINDOW_BYTES + 1, true},
        {(uintptr_t)pages, out, 16, false},
    };
    OK(sw_pymem_read_ranges(&m, large, 2) == 1 && !large[0].ok && large[1].ok);
    OK(sw_pymem_read_ranges(&m, large, 0) == 0);
    sw_pymem_close(&m);
    free(out);
    free(r);
}

static void memfd(void **state)
{
    (void)state;
    reads(SW_PYMEM_MEMFD);
    gathers(SW_PYMEM_MEMFD);
}

static void vm_readv(void **state)
{
    (void)state;
    reads(SW_PYMEM_VM_READV);
    gathers(SW_PYMEM_VM_READV);
}

static void through_a_pipe(void **state)
{
    (void)state;
    reads(SW_PYMEM_PIPE);
    gathers(SW_PYMEM_PIPE);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(sw_pymem_backend_name(SW_PYMEM_MEMFD), "memfd");
    assert_string_equal(sw_pymem_backend_name(SW_PYMEM_OFF), "off");
    assert_string_equal(sw_pymem_backend_name((enum sw_pymem_backend)77), "off");
}

static void off_and_zeroed(void **state)
{
    (void)state;
    struct sw_pymem m, zero = {0};
    assert_int_equal(sw_pymem_open(&m, SW_PYMEM_OFF), -EINVAL);
    assert_int_equal(m.backend, SW_PYMEM_OFF);
    sw_pymem_close(&m);
    sw_pymem_close(&zero); /* and not our standard input */
    OK(syscall(SYS_fcntl, 0, 1 /* F_GETFD */) >= 0 || errno == EBADF);
}

/* ---- what happens in another process: the exit code tells ---- */

static int in_child(int (*body)(void))
{
    int status;
    const pid_t pid = fork();
    OK(pid >= 0);
    if (pid == 0)
        _exit(body());
    OK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int works_with(enum sw_pymem_backend want)
{
    struct sw_pymem m;
    char out[16];
    if (sw_pymem_open(&m, SW_PYMEM_MEMFD) != 0 || m.backend != want)
        return CHILD_FAIL;
    const int rc = sw_pymem_read(&m, (uintptr_t)pages, out, sizeof out);
    sw_pymem_close(&m);
    return rc == 0 ? 0 : CHILD_FAIL;
}

static int file_size_limit(void)
{
    const struct rlimit limit = {PAGE, PAGE};
    return setrlimit(RLIMIT_FSIZE, &limit) == 0 ? works_with(SW_PYMEM_VM_READV) : CHILD_FAIL;
}

static int filter_calls(const unsigned *forbidden, size_t count, unsigned action)
{
    struct sock_filter program[16];
    unsigned short n = 0;
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; i++) {
        program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden[i], 0, 1);
        program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    }
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog filter = {n, program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

static int killed_for_memfd(void)
{
    const unsigned calls[] = {SYS_memfd_create};
    return filter_calls(calls, 1, SECCOMP_RET_KILL_PROCESS) ? CHILD_FAIL : works_with(SW_PYMEM_VM_READV);
}

static int killed_for_both(void)
{
    const unsigned calls[] = {SYS_memfd_create, SYS_process_vm_readv};
    return filter_calls(calls, 2, SECCOMP_RET_KILL_PROCESS) ? CHILD_FAIL : works_with(SW_PYMEM_PIPE);
}

static int refused_both(void)
{
    const unsigned calls[] = {SYS_pwritev, SYS_process_vm_readv};
    return filter_calls(calls, 2, SECCOMP_RET_ERRNO | EPERM) ? CHILD_FAIL : works_with(SW_PYMEM_PIPE);
}

static volatile sig_atomic_t children_ended;

static void on_child(int sig)
{
    (void)sig;
    children_ended = children_ended + 1;
}

/* The probe's child is nothing the application would hear of, or could reap. */
static int unseen(void)
{
    struct sigaction act = {.sa_handler = on_child};
    struct sw_pymem m;
    if (sigaction(SIGCHLD, &act, NULL) != 0 || sw_pymem_open(&m, SW_PYMEM_MEMFD) != 0)
        return CHILD_FAIL;
    sw_pymem_close(&m);
    return children_ended == 0 && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD ? 0 : CHILD_FAIL;
}

static int with_children_ignored(void)
{
    signal(SIGCHLD, SIG_IGN);
    return works_with(SW_PYMEM_MEMFD);
}

static void hostile_surroundings(void **state)
{
    (void)state;
    assert_int_equal(in_child(file_size_limit), 0);
    assert_int_equal(in_child(killed_for_memfd), 0);
    assert_int_equal(in_child(killed_for_both), 0);
    assert_int_equal(in_child(refused_both), 0);
    assert_int_equal(in_child(unseen), 0);
    assert_int_equal(in_child(with_children_ignored), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memfd), cmocka_unit_test(vm_readv),       cmocka_unit_test(through_a_pipe),
        cmocka_unit_test(names), cmocka_unit_test(off_and_zeroed), cmocka_unit_test(hostile_surroundings),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
