#include "unit.h"

#include "fdname.h"
#include "procfs.h"
#include "pymem.h"
#include "text.h"
#include "waitstate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_NS (20 * SW_NS_PER_SEC)
#define LONG_MS     3600000 /* the threads are interrupted, never waited for */
#define NOBODY      65534
#define STARVED_MS  100 /* how old a queue of connections must be to be called full: see a_connect */
#define SKIPPED     77

static struct sw_pymem mem;
static char dir[] = "/tmp/waitstate.XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) && sw_pymem_open(&mem, SW_PYMEM_MEMFD) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sw_pymem_close(&mem);
    return rmdir(dir);
}

static const char *in_dir(char *path, size_t room, const char *name)
{
    snprintf(path, room, "%s/%s", dir, name);
    return path;
}

/* ---- a thread that blocks ------------------------------------------------------------------------------------ */

struct blocked {
    pthread_t thread;
    _Atomic pid_t tid;
    void (*call)(struct blocked *);
    int fd[2]; /* whatever the call needs */
    const char *path;
    pid_t pid;
    struct sockaddr_in address;
    pthread_mutex_t *mutex;
    atomic_bool stop;
};

static void *run_blocked(void *arg)
{
    struct blocked *b = arg;
    atomic_store(&b->tid, (pid_t)syscall(SYS_gettid));
    b->call(b);
    return NULL;
}

static void on_wake_up(int signal)
{
    (void)signal;
}

static void start(struct blocked *b, void (*call)(struct blocked *))
{
    struct sigaction action = {.sa_handler = on_wake_up}; /* without SA_RESTART: the call returns EINTR */
    sigaction(SIGUSR1, &action, NULL);
    b->call = call;
    atomic_init(&b->tid, 0);
    atomic_init(&b->stop, false);
    assert_int_equal(pthread_create(&b->thread, NULL, run_blocked, b), 0);
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    while (!atomic_load(&b->tid) && sw_now_ns() < until)
        sched_yield();
    assert_int_not_equal(atomic_load(&b->tid), 0);
}

/* Ends a call that no event of the test ends. The signal may come before the call: again until the thread is gone. */
static void interrupt(struct blocked *b)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    atomic_store(&b->stop, true);
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    while (sw_now_ns() < until) {
        pthread_kill(b->thread, SIGUSR1);
        nanosleep(&pause, NULL);
        if (pthread_tryjoin_np(b->thread, NULL) == 0)
            return;
    }
    fail_msg("the thread did not end");
}

/* Looks until the thread waits, with these words at the start. */
static void wait_until(pid_t tid, struct sw_pymem *reader, const char *words, struct sw_waitstate *w)
{
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    do {
        assert_int_equal(sw_waitstate_read(tid, reader, w), 0);
        if ((w->state == 'S' || w->state == 'D') && strncmp(w->words, words, strlen(words)) == 0)
            return;
        sched_yield();
    } while (sw_now_ns() < until);
    fail_msg("state %c, call \"%s\", words \"%s\"; wanted \"%s\"", w->state, w->syscall, w->words, words);
}

static void check_words(const struct sw_waitstate *w, const char *wanted)
{
    assert_string_equal(w->words, wanted);
    assert_true(w->known_syscall);
    assert_true(w->nr >= 0);
    assert_string_equal(sw_waitstate_name(w), "waiting");
    assert_int_equal(strncmp(w->words, w->syscall, strlen(w->syscall)), 0);
}

static void check_fd(const struct sw_waitstate *w, int fd, bool reads, bool writes)
{
    assert_int_equal(w->fd, fd);
    assert_int_equal(w->fd_read, reads);
    assert_int_equal(w->fd_write, writes);
}

/* Newer architectures have only the later calls. */
#ifdef SYS_poll
#define POLL       "poll"
#define POLL_BLIND "poll(1 fds, timeout 30.0 s)"
#else
#define POLL       "ppoll"
#define POLL_BLIND "ppoll(1 fds)" /* its timeout lies in memory */
#endif
#ifdef SYS_epoll_wait
#define EPOLL "epoll_wait"
#else
#define EPOLL "epoll_pwait"
#endif

/* ---- descriptors ---------------------------------------------------------------------------------------------- */

static void call_read(struct blocked *b)
{
    char c;
    (void)!read(b->fd[0], &c, 1);
}

static void a_read_from_a_pipe(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    char wanted[64];
    (void)state;
    assert_int_equal(pipe(b.fd), 0);
    start(&b, call_read);
    snprintf(wanted, sizeof wanted, "read(fd %d → pipe)", b.fd[0]);
    wait_until(b.tid, &mem, "read(", &w);
    check_words(&w, wanted);
    check_fd(&w, b.fd[0], true, false);
    close(b.fd[1]);
    pthread_join(b.thread, NULL);
    close(b.fd[0]);
}

static void call_write(struct blocked *b)
{
    char bytes[4096] = {0};
    while (write(b->fd[1], bytes, sizeof bytes) > 0)
        ;
}

static void a_write_to_a_full_pipe(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    char wanted[64];
    (void)state;
    assert_int_equal(pipe(b.fd), 0);
    start(&b, call_write);
    snprintf(wanted, sizeof wanted, "write(fd %d → pipe)", b.fd[1]);
    wait_until(b.tid, &mem, "write(", &w);
    check_words(&w, wanted);
    check_fd(&w, b.fd[1], false, true);
    signal(SIGPIPE, SIG_IGN);
    close(b.fd[0]);
    pthread_join(b.thread, NULL);
    close(b.fd[1]);
}

static void call_recv(struct blocked *b)
{
    char c;
    (void)!recv(b->fd[0], &c, 1, 0);
}

static void a_receive_from_a_unix_socket(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    char wanted[64];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b.fd), 0);
    start(&b, call_recv);
    snprintf(wanted, sizeof wanted, "recvfrom(fd %d → unix socket)", b.fd[0]);
    wait_until(b.tid, &mem, "recvfrom(", &w);
    check_words(&w, wanted);
    check_fd(&w, b.fd[0], true, false);
    close(b.fd[1]);
    pthread_join(b.thread, NULL);
    close(b.fd[0]);
}

static int listen_on(struct sockaddr *address, socklen_t bytes, int backlog)
{
    const int fd = socket(address->sa_family, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, address, bytes), 0);
    assert_int_equal(listen(fd, backlog), 0);
    socklen_t n = bytes;
    assert_int_equal(getsockname(fd, address, &n), 0);
    return fd;
}

static struct sockaddr_in loopback(void)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void call_accept_and_receive(struct blocked *b)
{
    b->fd[1] = accept(b->fd[0], NULL, NULL);
    struct iovec iov = {.iov_base = &(char){0}, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    (void)!recvmsg(b->fd[1], &message, 0);
    close(b->fd[1]);
}

static void an_accept_and_a_receive_over_tcp(void **state)
{
    struct blocked b = {.address = loopback()};
    struct sw_waitstate w;
    char wanted[96];
    (void)state;
    b.fd[0] = listen_on((struct sockaddr *)&b.address, sizeof b.address, 1);
    start(&b, call_accept_and_receive);
    wait_until(b.tid, &mem, "accept", &w);
    snprintf(wanted, sizeof wanted, "%s(fd %d → listening on 127.0.0.1:%u)", w.syscall, b.fd[0],
             ntohs(b.address.sin_port));
    check_words(&w, wanted);
    check_fd(&w, b.fd[0], true, false);

    const int client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in own;
    socklen_t n = sizeof own;
    assert_int_equal(connect(client, (struct sockaddr *)&b.address, sizeof b.address), 0);
    assert_int_equal(getsockname(client, (struct sockaddr *)&own, &n), 0);
    wait_until(b.tid, &mem, "recvmsg(", &w);
    snprintf(wanted, sizeof wanted, "recvmsg(fd %d → 127.0.0.1:%u)", w.fd, ntohs(own.sin_port));
    check_words(&w, wanted);
    assert_true(w.fd_read && !w.fd_write && w.fd >= 0);
    close(client);
    pthread_join(b.thread, NULL);
    close(b.fd[0]);
}

static void call_connect(struct blocked *b)
{
    while (!atomic_load(&b->stop)) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&b->address, sizeof b->address) == 0 && b->fd[1] < 0)
            b->fd[1] = fd; /* fills the queue; the kernel keeps connections that are closed */
        else
            close(fd);
    }
}

static void a_connect_that_nobody_accepts(void **state)
{
    struct blocked b = {.address = loopback(), .fd = {-1, -1}};
    struct sw_waitstate w;
    char wanted[96];
    (void)state;
    const int listener = listen_on((struct sockaddr *)&b.address, sizeof b.address, 0);
    start(&b, call_connect);
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    uint64_t since = 0; /* when this very call was first seen: once the queue is full it stays */
    int fd = -1;
    do {
        wait_until(b.tid, &mem, "connect(", &w);
        if (w.fd != fd)
            since = sw_now_ns();
        fd = w.fd;
    } while (sw_now_ns() - since < STARVED_MS * SW_NS_PER_MS && sw_now_ns() < until);
    snprintf(wanted, sizeof wanted, "connect(fd %d → 127.0.0.1:%u)", w.fd, ntohs(b.address.sin_port));
    check_words(&w, wanted);
    check_fd(&w, fd, false, true);
    interrupt(&b);
    close(listener);
    close(b.fd[1]);
}

static void names_of_descriptors(void **state)
{
    char path[128], text[512], wanted[512];
    struct sw_text t;
    (void)state;
    struct {
        int fd;
        const char *name;
    } cases[] = {
        {eventfd(0, 0), "eventfd"},
        {epoll_create1(0), "epoll"},
        {open("/dev/null", O_RDONLY), "/dev/null"},
        {open(in_dir(path, sizeof path, "a\nb\x1b"), O_RDWR | O_CREAT, 0600), wanted},
        {socket(AF_INET, SOCK_STREAM, 0), "unconnected socket 0.0.0.0:0"},
        {socket(AF_INET6, SOCK_DGRAM, 0), "datagram socket [::]:0"},
    };
    snprintf(wanted, sizeof wanted, "%s/a\\nb\\x1b", dir);
    for (size_t i = 0; i < SW_COUNT(cases); i++) {
        if (cases[i].fd < 0 && i == SW_COUNT(cases) - 1)
            continue; /* a machine without IPv6 */
        sw_text_init(&t, text, sizeof text);
        sw_fdname_put(&t, cases[i].fd);
        assert_string_equal(text, cases[i].name);
        close(cases[i].fd);
    }
    unlink(path);
    sw_text_reset(&t);
    sw_fdname_put(&t, cases[0].fd);
    assert_string_equal(text, "closed");

    char name[300];
    memset(name, 'n', sizeof name);
    memcpy(name + sizeof name - 5, "/tail", 5);
    sw_text_reset(&t);
    sw_fdname_put_path(&t, name, sizeof name);
    assert_int_equal(strncmp(text, "…n", strlen("…n")), 0);
    assert_string_equal(text + t.used - 5, "/tail");
}

static void names_of_unix_sockets(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[256], wanted[256];
    struct sw_text t;
    (void)state;
    in_dir(address.sun_path, sizeof address.sun_path, "s");
    const int listener = listen_on((struct sockaddr *)&address, sizeof address, 1);
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    const int server = accept(listener, NULL, NULL);
    const struct {
        int fd;
        const char *words;
    } cases[] = {{listener, "listening on unix:"}, {client, "unix:"}, {server, "a client of unix:"}};
    for (size_t i = 0; i < SW_COUNT(cases); i++) {
        sw_text_init(&t, text, sizeof text);
        sw_fdname_put(&t, cases[i].fd);
        snprintf(wanted, sizeof wanted, "%s%s/s", cases[i].words, dir);
        assert_string_equal(text, wanted);
        close(cases[i].fd);
    }
    unlink(address.sun_path);
    static const struct sockaddr_storage abstract = {.ss_family = AF_UNIX};
    struct sockaddr_storage named = abstract;
    memcpy((char *)&named + offsetof(struct sockaddr_un, sun_path), "\0a\nb", 4);
    sw_text_reset(&t);
    assert_true(sw_fdname_put_address(&t, &named, offsetof(struct sockaddr_un, sun_path) + 4));
    assert_string_equal(text, "unix:@a\\nb");
    assert_false(sw_fdname_put_address(&t, &named, offsetof(struct sockaddr_un, sun_path)));
    assert_false(sw_fdname_put_address(&t, &named, 1));
    assert_false(sw_fdname_put_address(&t, &named, sizeof named));
    const struct sockaddr_in short_one = {.sin_family = AF_INET};
    memcpy(&named, &short_one, sizeof short_one);
    assert_false(sw_fdname_put_address(&t, &named, 3));
}

/* ---- sets of descriptors ---------------------------------------------------------------------------------------- */

static void call_poll(struct blocked *b)
{
    struct pollfd fds[] = {{b->fd[0], POLLIN, 0}};
    (void)!poll(fds, SW_COUNT(fds), 30000);
}

static void a_poll_of_one(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    char wanted[96];
    (void)state;
    assert_int_equal(pipe(b.fd), 0);
    start(&b, call_poll);
    snprintf(wanted, sizeof wanted, POLL "(fd %d → pipe IN, timeout 30.0 s)", b.fd[0]);
    wait_until(b.tid, &mem, POLL "(", &w);
    check_words(&w, wanted);
    check_fd(&w, b.fd[0], true, false);

    wait_until(b.tid, NULL, POLL "(", &w);
    check_words(&w, POLL_BLIND);
    check_fd(&w, -1, false, false);
    interrupt(&b);
    close(b.fd[0]);
    close(b.fd[1]);
}

static void call_poll_many(struct blocked *b)
{
    struct pollfd fds[40];
    for (size_t i = 0; i < SW_COUNT(fds); i++)
        fds[i] = (struct pollfd){b->fd[0], POLLIN | POLLPRI, 0};
    fds[1].fd = -1;
    (void)!poll(fds, SW_COUNT(fds), -1);
}

static void a_poll_of_many(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    char wanted[160];
    (void)state;
    assert_int_equal(pipe(b.fd), 0);
    start(&b, call_poll_many);
    snprintf(wanted, sizeof wanted,
             POLL "(fd %d → pipe IN|PRI, fd %d → pipe IN|PRI, fd %d → pipe IN|PRI, 36 more, no timeout)",
             b.fd[0], b.fd[0], b.fd[0]);
    wait_until(b.tid, &mem, POLL "(", &w);
    check_words(&w, wanted);
    check_fd(&w, -1, false, false);
    interrupt(&b);
    close(b.fd[0]);
    close(b.fd[1]);
}

static void call_poll_nothing(struct blocked *b)
{
    (void)b;
    (void)!poll(NULL, 0, LONG_MS);
}

static void a_poll_of_none(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    (void)state;
    start(&b, call_poll_nothing);
    wait_until(b.tid, &mem, POLL "(no fd, timeout 60 min", &w);
    check_fd(&w, -1, false, false);
    interrupt(&b);
}

static void call_ppoll(struct blocked *b)
{
    (void)b;
    (void)!syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

static void a_ppoll_without_end(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    (void)state;
    start(&b, call_ppoll);
    wait_until(b.tid, &mem, "ppoll(", &w);
    check_words(&w, "ppoll(no fd, no timeout)");
    interrupt(&b);
}

static void call_select(struct blocked *b)
{
    fd_set reads;
    struct timeval timeout = {.tv_sec = 25};
    FD_ZERO(&reads);
    FD_SET(b->fd[0], &reads);
    (void)!select(b->fd[0] + 1, &reads, NULL, NULL, &timeout);
}

static void a_select(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    char wanted[96];
    (void)state;
    assert_int_equal(pipe(b.fd), 0);
    start(&b, call_select);
    /* the C library may ask for select or pselect6 */
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    do
        assert_int_equal(sw_waitstate_read(b.tid, &mem, &w), 0);
    while (!strstr(w.words, "select") && sw_now_ns() < until);
    snprintf(wanted, sizeof wanted, "%s(fd %d → pipe IN, timeout 25.0 s)", w.syscall, b.fd[0]);
    check_words(&w, wanted);
    check_fd(&w, b.fd[0], true, false);
    interrupt(&b);
    close(b.fd[0]);
    close(b.fd[1]);
}

static void call_epoll(struct blocked *b)
{
    struct epoll_event event;
    (void)!epoll_wait(b->pid, &event, 1, 5000);
}

/* What it watches is not said, not even a single descriptor. */
static void an_epoll(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    char wanted[64];
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b.fd), 0);
    const int epoll = epoll_create1(0);
    b.pid = epoll;
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, b.fd[0], &event), 0);
    start(&b, call_epoll);
    snprintf(wanted, sizeof wanted, EPOLL "(fd %d, timeout 5.0 s)", epoll);
    wait_until(b.tid, &mem, EPOLL "(", &w);
    check_words(&w, wanted);
    check_fd(&w, -1, false, false);
    close(b.fd[1]);
    pthread_join(b.thread, NULL);
    close(b.fd[0]);
    close(epoll);
}

/* ---- locks, time, children --------------------------------------------------------------------------------------- */

static void call_lock(struct blocked *b)
{
    pthread_mutex_lock(b->mutex);
    pthread_mutex_unlock(b->mutex);
}

static void a_mutex(void **state)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct blocked b = {.mutex = &mutex};
    struct sw_waitstate w;
    char wanted[64] = "futex";
    (void)state;
    pthread_mutex_lock(&mutex);
    start(&b, call_lock);
    wait_until(b.tid, &mem, "futex", &w);
#ifdef __GLIBC__
    snprintf(wanted, sizeof wanted, "futex(mutex held by thread %ld)", syscall(SYS_gettid));
#endif
    check_words(&w, wanted);
    assert_int_equal(w.futex, (uintptr_t)&mutex);
    check_fd(&w, -1, false, false);
    wait_until(b.tid, NULL, "futex", &w);
    check_words(&w, "futex");
    pthread_mutex_unlock(&mutex);
    pthread_join(b.thread, NULL);
}

static void call_sleep(struct blocked *b)
{
    struct timespec until = {.tv_sec = (time_t)(sw_now_ns() / SW_NS_PER_SEC) + 3000};
    (void)b;
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void call_old_sleep(struct blocked *b)
{
    struct timespec time = {.tv_sec = 30};
    (void)b;
    (void)!syscall(SYS_nanosleep, &time, NULL);
}

static void a_sleep(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    (void)state;
    start(&b, call_old_sleep);
    wait_until(b.tid, &mem, "nanosleep(", &w);
    check_words(&w, "nanosleep(30.0 s)");
    interrupt(&b);
    start(&b, call_sleep);
    wait_until(b.tid, &mem, "clock_nanosleep(49 min", &w);
    assert_string_equal(w.words + strlen(w.words) - strlen(" left)"), " left)");
    interrupt(&b);
}

static void call_wait(struct blocked *b)
{
    (void)!waitpid(b->pid, NULL, 0);
}

/* A child that does nothing until it is killed. */
static pid_t idle_child(void)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_NAME, "child \"x\"\n");
        for (;;)
            pause();
    }
    return pid;
}

static void a_child(void **state)
{
    struct blocked b = {.pid = idle_child()};
    struct sw_waitstate w;
    char wanted[64];
    (void)state;
    start(&b, call_wait);
    snprintf(wanted, sizeof wanted, "wait4(pid %d \"child \"x\"\\n\")", b.pid);
    wait_until(b.tid, &mem, wanted, &w); /* the child names itself when it gets to run */
    check_words(&w, wanted);
    kill(b.pid, SIGKILL);
    pthread_join(b.thread, NULL);
}

static void call_flock(struct blocked *b)
{
    (void)!flock(b->fd[0], LOCK_EX);
}

static void call_posix_lock(struct blocked *b)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    (void)!fcntl(b->fd[0], F_SETLKW, &lock);
}

/* A child that holds a lock on the file (by descriptors of its own), and says so over a pipe. */
static pid_t lock_holder(const char *path, bool posix)
{
    int ready[2];
    char c = 0;
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        const int fd = open(path, O_RDWR);
        const int err = posix ? fcntl(fd, F_SETLK, &lock) : flock(fd, LOCK_EX);
        prctl(PR_SET_NAME, "holder");
        (void)!write(ready[1], err ? "n" : "y", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    close(ready[0]);
    return pid;
}

static void a_file_lock(void **state)
{
    char path[128], wanted[256];
    struct sw_waitstate w;
    (void)state;
    in_dir(path, sizeof path, "lock");
    for (unsigned posix = 0; posix < 2; posix++) {
        struct blocked b = {.fd = {open(path, O_RDWR | O_CREAT, 0600), -1}};
        assert_true(b.fd[0] >= 0);
        const pid_t holder = lock_holder(path, posix);
        start(&b, posix ? call_posix_lock : call_flock);
        snprintf(wanted, sizeof wanted, "%s(fd %d → %s%s), held by pid %d \"holder\"",
                 posix ? "fcntl" : "flock", b.fd[0], path, posix ? ", F_SETLKW" : "", holder);
        wait_until(b.tid, &mem, posix ? "fcntl(" : "flock(", &w);
        check_words(&w, wanted);
        check_fd(&w, b.fd[0], false, false);
        kill(holder, SIGKILL);
        waitpid(holder, NULL, 0);
        pthread_join(b.thread, NULL);
        close(b.fd[0]);
    }
    unlink(path);
}

/* ---- paths ------------------------------------------------------------------------------------------------------ */

static void call_open(struct blocked *b)
{
    const int fd = open(b->path, O_RDONLY);
    if (fd >= 0)
        close(fd);
}

static void an_open_of_a_fifo(void **state)
{
    char path[128], wanted[160];
    struct blocked b = {.path = in_dir(path, sizeof path, "fi\tfo")};
    struct sw_waitstate w;
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    start(&b, call_open);
    snprintf(wanted, sizeof wanted, "openat(\"%s/fi\\tfo\")", dir);
    wait_until(b.tid, &mem, "openat(", &w);
    check_words(&w, wanted);
    check_fd(&w, -1, false, false);
    wait_until(b.tid, NULL, "openat(", &w);
    check_words(&w, "openat(…)");
    const int writer = open(path, O_WRONLY | O_NONBLOCK);
    assert_true(writer >= 0);
    pthread_join(b.thread, NULL);
    close(writer);
    unlink(path);
}

/* ---- threads that run, or are gone -------------------------------------------------------------------------------- */

static void call_spin(struct blocked *b)
{
    while (!atomic_load_explicit(&b->stop, memory_order_relaxed))
        ;
}

static void a_running_thread(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    (void)state;
    start(&b, call_spin);
    const pid_t tid = atomic_load(&b.tid);
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    do
        assert_int_equal(sw_waitstate_read(tid, &mem, &w), 0);
    while (!(w.state == 'R' && w.nr < 0 && w.cpu_ns > SW_NS_PER_MS) && sw_now_ns() < until);
    assert_int_equal(w.state, 'R');
    assert_string_equal(sw_waitstate_name(&w), "running");
    assert_string_equal(w.words, "");
    assert_string_equal(w.syscall, "");
    assert_int_equal(w.nr, -1);
    assert_true(sw_waitstate_cpu_ns(tid) >= w.cpu_ns);
    atomic_store(&b.stop, true);
    pthread_join(b.thread, NULL);
}

static void a_thread_that_is_gone(void **state)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    (void)state;
    start(&b, call_spin);
    const pid_t tid = atomic_load(&b.tid);
    atomic_store(&b.stop, true);
    pthread_join(b.thread, NULL);
    /* join returns when the C library is done; the kernel follows */
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    int err;
    do
        err = sw_waitstate_read(tid, &mem, &w);
    while (err == 0 && sw_now_ns() < until);
    assert_int_equal(err, -ESRCH);
    assert_int_equal(w.state, 0);
    assert_null(sw_waitstate_name(&w));
    assert_int_equal(sw_waitstate_cpu_ns(tid), 0);
    assert_int_equal(sw_waitstate_cpu_ns(0), 0);
    assert_int_equal(sw_waitstate_read(1, &mem, &w), -ESRCH); /* another process's */
}

/* ---- as another user: `syscall` is closed, the category remains ----------------------------------------------------- */

static int look_as_nobody(void)
{
    struct blocked b = {0};
    struct sw_waitstate w;
    /* without the rights to change it is the same: what cannot be dumped is owned by root */
    if (pipe(b.fd) || prctl(PR_SET_DUMPABLE, 0) || (geteuid() == 0 && (setgid(NOBODY) || setuid(NOBODY))))
        return 5;
    if (pthread_create(&b.thread, NULL, run_blocked, (b.call = call_read, &b)))
        return 1;
    const uint64_t until = sw_now_ns() + DEADLINE_NS;
    while (sw_now_ns() < until) {
        const pid_t tid = atomic_load(&b.tid);
        if (!tid || sw_waitstate_read(tid, NULL, &w) || w.state != 'S' || !strstr(w.words, "pipe"))
            continue;
        if (w.known_syscall || w.nr != -1 || w.syscall[0] || w.fd != -1)
            return 2;
        return strncmp(w.words, "a pipe [kernel: ", strlen("a pipe [kernel: ")) == 0 ? 0 : 3;
    }
    fprintf(stderr, "state %c, words \"%s\"\n", w.state, w.words);
    return 4;
}

static void after_a_change_of_user(void **state)
{
    int status;
    (void)state;
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(look_as_nobody());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- from pthread_self() to the thread's id -------------------------------------------------------------------------- */

static void the_tid_of_a_pthread(void **state)
{
    struct sw_tid_finder finder, closed = {0};
    struct blocked b[4];
    (void)state;
    memset(b, 0, sizeof b);
    assert_int_equal(sw_tid_finder_init(&finder, &mem), 0);
    assert_true(finder.ready);
    assert_int_equal(sw_tid_of(&finder, &mem, (uintptr_t)pthread_self()), syscall(SYS_gettid));
    for (size_t i = 0; i < SW_COUNT(b); i++) {
        start(&b[i], call_spin);
        assert_int_equal(sw_tid_of(&finder, &mem, (uintptr_t)b[i].thread), atomic_load(&b[i].tid));
    }
    for (size_t i = 0; i < SW_COUNT(b); i++) {
        atomic_store(&b[i].stop, true);
        pthread_join(b[i].thread, NULL);
        /* its memory is unmapped, or waits for reuse with the id cleared */
        assert_int_equal(sw_tid_of(&finder, &mem, (uintptr_t)b[i].thread), -ESRCH);
    }
    assert_int_equal(sw_tid_of(&finder, &mem, 0), -ESRCH);
    assert_int_equal(sw_tid_of(&finder, &mem, (uintptr_t)&finder - finder.offset), -ESRCH);
    assert_int_equal(sw_tid_of(&closed, &mem, (uintptr_t)pthread_self()), -ENOTSUP);
    struct sw_pymem off = {.backend = SW_PYMEM_OFF};
    assert_int_equal(sw_tid_finder_init(&closed, &off), -ENOTSUP);
}

static void *find_in_thread(void *arg)
{
    *(int *)arg = sw_tid_finder_init(&(struct sw_tid_finder){0}, &mem);
    return NULL;
}

/* The struct of a thread lies at the end of its stack's mapping: behind it may be nothing. */
static void the_finder_works_on_any_thread(void **state)
{
    pthread_t thread;
    int err = -1;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, find_in_thread, &err), 0);
    pthread_join(thread, NULL);
    assert_int_equal(err, 0);
}

/* ---- small files ------------------------------------------------------------------------------------------------------ */

static void numbers(void **state)
{
    const char *s = "  17: 0x1f ffffffffffffffff 10000000000000000 -1";
    uint64_t n = 0;
    (void)state;
    assert_true(sw_procfs_number(&s, 10, &n) && n == 17 && *s == ':');
    s++;
    assert_true(sw_procfs_number(&s, 16, &n) && n == 0x1f);
    assert_true(sw_procfs_number(&s, 16, &n) && n == UINT64_MAX);
    assert_false(sw_procfs_number(&s, 16, &n)); /* too large */
    s = "-1";
    assert_false(sw_procfs_number(&s, 10, &n));
    s = "";
    assert_false(sw_procfs_number(&s, 10, &n));
    s = "f";
    assert_false(sw_procfs_number(&s, 10, &n));
}

static void lines(void **state)
{
    char path[128], text[3 * SW_PROCFS_LINE_CHARS];
    struct sw_procfs_lines l;
    (void)state;
    in_dir(path, sizeof path, "lines");
    memset(text, 'x', sizeof text);
    memcpy(text, "one\n\ntwo\n", 9);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fwrite(text, 1, sizeof text, f);
    fclose(f);

    assert_int_equal(sw_procfs_lines_open(&l, path, sizeof text), 0);
    assert_string_equal(sw_procfs_lines_next(&l), "one");
    assert_string_equal(sw_procfs_lines_next(&l), "");
    assert_string_equal(sw_procfs_lines_next(&l), "two");
    size_t rest = 0;
    for (const char *line; (line = sw_procfs_lines_next(&l));) {
        assert_true(strlen(line) > 0 && strlen(line) < SW_PROCFS_LINE_CHARS);
        rest += strlen(line);
    }
    assert_int_equal(rest, sizeof text - 9);
    sw_procfs_lines_close(&l);

    assert_int_equal(sw_procfs_lines_open(&l, path, 6), 0); /* the budget ends it */
    assert_string_equal(sw_procfs_lines_next(&l), "one");
    assert_string_equal(sw_procfs_lines_next(&l), "");
    assert_string_equal(sw_procfs_lines_next(&l), "t");
    assert_null(sw_procfs_lines_next(&l));
    sw_procfs_lines_close(&l);
    unlink(path);
    assert_int_equal(sw_procfs_lines_open(&l, path, 6), -ENOENT);
    assert_int_equal(sw_procfs_read(path, text, sizeof text), -ENOENT);
    assert_int_equal(sw_procfs_read("/proc/self/comm", text, 4), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(lines),
        cmocka_unit_test(a_read_from_a_pipe),
        cmocka_unit_test(a_write_to_a_full_pipe),
        cmocka_unit_test(a_receive_from_a_unix_socket),
        cmocka_unit_test(an_accept_and_a_receive_over_tcp),
        cmocka_unit_test(a_connect_that_nobody_accepts),
        cmocka_unit_test(names_of_descriptors),
        cmocka_unit_test(names_of_unix_sockets),
        cmocka_unit_test(a_poll_of_one),
        cmocka_unit_test(a_poll_of_many),
        cmocka_unit_test(a_poll_of_none),
        cmocka_unit_test(a_ppoll_without_end),
        cmocka_unit_test(a_select),
        cmocka_unit_test(an_epoll),
        cmocka_unit_test(a_mutex),
        cmocka_unit_test(a_sleep),
        cmocka_unit_test(a_child),
        cmocka_unit_test(a_file_lock),
        cmocka_unit_test(an_open_of_a_fifo),
        cmocka_unit_test(a_running_thread),
        cmocka_unit_test(a_thread_that_is_gone),
        cmocka_unit_test(after_a_change_of_user),
        cmocka_unit_test(the_tid_of_a_pthread),
        cmocka_unit_test(the_finder_works_on_any_thread),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
