#include "syscalls.h"

#include <sys/syscall.h>

/* clang-format off */
static const struct sw_syscall table[] = {
    /* data through one descriptor */
    {SYS_read, "read", SW_SHAPE_FD_READ},
    {SYS_readv, "readv", SW_SHAPE_FD_READ},
    {SYS_pread64, "pread64", SW_SHAPE_FD_READ},
    {SYS_preadv, "preadv", SW_SHAPE_FD_READ},
    {SYS_recvfrom, "recvfrom", SW_SHAPE_FD_READ},
    {SYS_recvmsg, "recvmsg", SW_SHAPE_FD_READ},
    {SYS_recvmmsg, "recvmmsg", SW_SHAPE_FD_READ},
    {SYS_accept, "accept", SW_SHAPE_FD_READ},
    {SYS_accept4, "accept4", SW_SHAPE_FD_READ},
    {SYS_mq_timedreceive, "mq_timedreceive", SW_SHAPE_FD_READ},
    {SYS_write, "write", SW_SHAPE_FD_WRITE},
    {SYS_writev, "writev", SW_SHAPE_FD_WRITE},
    {SYS_pwrite64, "pwrite64", SW_SHAPE_FD_WRITE},
    {SYS_pwritev, "pwritev", SW_SHAPE_FD_WRITE},
    {SYS_sendmsg, "sendmsg", SW_SHAPE_FD_WRITE},
    {SYS_sendmmsg, "sendmmsg", SW_SHAPE_FD_WRITE},
    {SYS_mq_timedsend, "mq_timedsend", SW_SHAPE_FD_WRITE},
    {SYS_vmsplice, "vmsplice", SW_SHAPE_FD_WRITE},
    {SYS_sendto, "sendto", SW_SHAPE_SENDTO},
    {SYS_connect, "connect", SW_SHAPE_CONNECT},
#ifdef SYS_preadv2
    {SYS_preadv2, "preadv2", SW_SHAPE_FD_READ},
    {SYS_pwritev2, "pwritev2", SW_SHAPE_FD_WRITE},
#endif

    /* between descriptors */
    {SYS_sendfile, "sendfile", SW_SHAPE_SENDFILE},
    {SYS_splice, "splice", SW_SHAPE_SPLICE},
    {SYS_tee, "tee", SW_SHAPE_FD_TO_FD},
#ifdef SYS_copy_file_range
    {SYS_copy_file_range, "copy_file_range", SW_SHAPE_SPLICE},
#endif

    /* several descriptors */
    {SYS_ppoll, "ppoll", SW_SHAPE_PPOLL},
    {SYS_pselect6, "pselect6", SW_SHAPE_PSELECT},
    {SYS_epoll_pwait, "epoll_pwait", SW_SHAPE_EPOLL},
#ifdef SYS_epoll_pwait2
    {SYS_epoll_pwait2, "epoll_pwait2", SW_SHAPE_EPOLL_PWAIT2},
#endif
    {SYS_io_getevents, "io_getevents", SW_SHAPE_PLAIN},
#ifdef SYS_io_uring_enter
    {SYS_io_uring_enter, "io_uring_enter", SW_SHAPE_FD},
#endif

    /* locks, time, children, signals */
    {SYS_futex, "futex", SW_SHAPE_FUTEX},
#ifdef SYS_futex_waitv
    {SYS_futex_waitv, "futex_waitv", SW_SHAPE_PLAIN},
#endif
    {SYS_flock, "flock", SW_SHAPE_FLOCK},
    {SYS_fcntl, "fcntl", SW_SHAPE_FCNTL},
    {SYS_semop, "semop", SW_SHAPE_PLAIN},
    {SYS_semtimedop, "semtimedop", SW_SHAPE_PLAIN},
    {SYS_msgrcv, "msgrcv", SW_SHAPE_PLAIN},
    {SYS_msgsnd, "msgsnd", SW_SHAPE_PLAIN},
    {SYS_nanosleep, "nanosleep", SW_SHAPE_SLEEP},
    {SYS_clock_nanosleep, "clock_nanosleep", SW_SHAPE_CLOCK_SLEEP},
    {SYS_sched_yield, "sched_yield", SW_SHAPE_PLAIN},
    {SYS_wait4, "wait4", SW_SHAPE_WAIT4},
    {SYS_waitid, "waitid", SW_SHAPE_WAITID},
    {SYS_rt_sigtimedwait, "rt_sigtimedwait", SW_SHAPE_PLAIN},
    {SYS_rt_sigsuspend, "rt_sigsuspend", SW_SHAPE_PLAIN},
    {SYS_restart_syscall, "restart_syscall", SW_SHAPE_PLAIN},

    /* files by descriptor */
    {SYS_fsync, "fsync", SW_SHAPE_FD},
    {SYS_fdatasync, "fdatasync", SW_SHAPE_FD},
    {SYS_syncfs, "syncfs", SW_SHAPE_FD},
    {SYS_sync_file_range, "sync_file_range", SW_SHAPE_FD},
    {SYS_fallocate, "fallocate", SW_SHAPE_FD},
    {SYS_ftruncate, "ftruncate", SW_SHAPE_FD},
    {SYS_fadvise64, "fadvise64", SW_SHAPE_FD},
    {SYS_readahead, "readahead", SW_SHAPE_FD},
    {SYS_fstat, "fstat", SW_SHAPE_FD},
    {SYS_fstatfs, "fstatfs", SW_SHAPE_FD},
    {SYS_fchmod, "fchmod", SW_SHAPE_FD},
    {SYS_fchown, "fchown", SW_SHAPE_FD},
    {SYS_fchdir, "fchdir", SW_SHAPE_FD},
    {SYS_fgetxattr, "fgetxattr", SW_SHAPE_FD},
    {SYS_fsetxattr, "fsetxattr", SW_SHAPE_FD},
    {SYS_getdents64, "getdents64", SW_SHAPE_FD},
    {SYS_lseek, "lseek", SW_SHAPE_FD},
    {SYS_ioctl, "ioctl", SW_SHAPE_FD},
    {SYS_close, "close", SW_SHAPE_FD},
    {SYS_shutdown, "shutdown", SW_SHAPE_FD},

    /* files by path */
    {SYS_openat, "openat", SW_SHAPE_AT_PATH},
#ifdef SYS_openat2
    {SYS_openat2, "openat2", SW_SHAPE_AT_PATH},
#endif
    {SYS_newfstatat, "newfstatat", SW_SHAPE_AT_PATH},
#ifdef SYS_statx
    {SYS_statx, "statx", SW_SHAPE_AT_PATH},
#endif
    {SYS_faccessat, "faccessat", SW_SHAPE_AT_PATH},
#ifdef SYS_faccessat2
    {SYS_faccessat2, "faccessat2", SW_SHAPE_AT_PATH},
#endif
    {SYS_readlinkat, "readlinkat", SW_SHAPE_AT_PATH},
    {SYS_unlinkat, "unlinkat", SW_SHAPE_AT_PATH},
    {SYS_mkdirat, "mkdirat", SW_SHAPE_AT_PATH},
    {SYS_mknodat, "mknodat", SW_SHAPE_AT_PATH},
    {SYS_fchmodat, "fchmodat", SW_SHAPE_AT_PATH},
    {SYS_fchownat, "fchownat", SW_SHAPE_AT_PATH},
    {SYS_utimensat, "utimensat", SW_SHAPE_AT_PATH},
    {SYS_linkat, "linkat", SW_SHAPE_AT_PATH_PATH},
#ifdef SYS_renameat
    {SYS_renameat, "renameat", SW_SHAPE_AT_PATH_PATH},
#endif
    {SYS_renameat2, "renameat2", SW_SHAPE_AT_PATH_PATH},
    {SYS_execveat, "execveat", SW_SHAPE_AT_PATH},
    {SYS_execve, "execve", SW_SHAPE_PATH},
    {SYS_truncate, "truncate", SW_SHAPE_PATH},
    {SYS_statfs, "statfs", SW_SHAPE_PATH},
    {SYS_chdir, "chdir", SW_SHAPE_PATH},
    {SYS_chroot, "chroot", SW_SHAPE_PATH},
    {SYS_getxattr, "getxattr", SW_SHAPE_PATH},
    {SYS_setxattr, "setxattr", SW_SHAPE_PATH},
    {SYS_umount2, "umount2", SW_SHAPE_PATH},
    {SYS_mount, "mount", SW_SHAPE_PATH_PATH},
    {SYS_sync, "sync", SW_SHAPE_PLAIN},

    /* memory and processes */
    {SYS_mmap, "mmap", SW_SHAPE_PLAIN},
    {SYS_munmap, "munmap", SW_SHAPE_PLAIN},
    {SYS_mremap, "mremap", SW_SHAPE_PLAIN},
    {SYS_mprotect, "mprotect", SW_SHAPE_PLAIN},
    {SYS_madvise, "madvise", SW_SHAPE_PLAIN},
    {SYS_msync, "msync", SW_SHAPE_PLAIN},
    {SYS_mlock, "mlock", SW_SHAPE_PLAIN},
    {SYS_brk, "brk", SW_SHAPE_PLAIN},
    {SYS_clone, "clone", SW_SHAPE_PLAIN},
#ifdef SYS_clone3
    {SYS_clone3, "clone3", SW_SHAPE_PLAIN},
#endif
    {SYS_exit, "exit", SW_SHAPE_PLAIN},
    {SYS_exit_group, "exit_group", SW_SHAPE_PLAIN},
    {SYS_getrandom, "getrandom", SW_SHAPE_PLAIN},
    {SYS_ptrace, "ptrace", SW_SHAPE_PLAIN},
    {SYS_membarrier, "membarrier", SW_SHAPE_PLAIN},

#ifdef __x86_64__ /* calls that newer architectures never had */
    {SYS_poll, "poll", SW_SHAPE_POLL},
    {SYS_select, "select", SW_SHAPE_SELECT},
    {SYS_epoll_wait, "epoll_wait", SW_SHAPE_EPOLL},
    {SYS_pause, "pause", SW_SHAPE_PLAIN},
    {SYS_fork, "fork", SW_SHAPE_PLAIN},
    {SYS_vfork, "vfork", SW_SHAPE_PLAIN},
    {SYS_getdents, "getdents", SW_SHAPE_FD},
    {SYS_open, "open", SW_SHAPE_PATH},
    {SYS_creat, "creat", SW_SHAPE_PATH},
    {SYS_stat, "stat", SW_SHAPE_PATH},
    {SYS_lstat, "lstat", SW_SHAPE_PATH},
    {SYS_access, "access", SW_SHAPE_PATH},
    {SYS_readlink, "readlink", SW_SHAPE_PATH},
    {SYS_unlink, "unlink", SW_SHAPE_PATH},
    {SYS_mkdir, "mkdir", SW_SHAPE_PATH},
    {SYS_rmdir, "rmdir", SW_SHAPE_PATH},
    {SYS_mknod, "mknod", SW_SHAPE_PATH},
    {SYS_chmod, "chmod", SW_SHAPE_PATH},
    {SYS_chown, "chown", SW_SHAPE_PATH},
    {SYS_lchown, "lchown", SW_SHAPE_PATH},
    {SYS_utimes, "utimes", SW_SHAPE_PATH},
    {SYS_rename, "rename", SW_SHAPE_PATH_PATH},
    {SYS_link, "link", SW_SHAPE_PATH_PATH},
    {SYS_symlink, "symlink", SW_SHAPE_PATH_PATH},
#endif
};
/* clang-format on */

const struct sw_syscall *sw_syscalls_find(long nr)
{
    for (size_t i = 0; i < SW_COUNT(table); i++)
        if (table[i].nr == nr)
            return &table[i];
    return NULL;
}
