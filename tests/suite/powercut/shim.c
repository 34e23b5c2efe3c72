/* Preloaded into the server: keeps, for every file below POWERCUT_DATA, a journal of what was written to it since its last
 * fdatasync or fsync, so that the test can undo it: a power cut. It can also let writes and syncs fail.
 *
 *   POWERCUT_DATA     files below this directory are watched
 *   POWERCUT_JOURNAL  directory of the journals, one a file, named by its inode
 *   POWERCUT_DEAF     if set: fdatasync on files whose path contains this counts for nothing
 *   POWERCUT_FAULT    WHAT:N   the Nth write (or sync) and what follows fails:
 *                     enospc   no write or growth succeeds any more
 *                     short    the Nth write is cut in half, those after it find no space
 *                     write    the Nth write fails with EIO
 *                     sync     the Nth sync fails with EIO
 *
 * A record of a journal: eight numbers of 8 bytes (kind, offset, length of the file before, length of the old bytes, length of
 * the new bytes, three of nothing), old bytes, new bytes. Kind 1 is a write, kind 2 sets the length to `offset`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { NONE, FULL, SHORT, WRITE, SYNC };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *data, *journals, *deaf;
static enum fault fault;
static long fault_at, writes, syncs;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start(void) {
    data = getenv("POWERCUT_DATA");
    journals = getenv("POWERCUT_JOURNAL");
    deaf = getenv("POWERCUT_DEAF");
    const char *wish = getenv("POWERCUT_FAULT");
    if (wish) {
        const char *n = strchr(wish, ':');
        fault_at = n ? atol(n + 1) : 0;
        fault = !strncmp(wish, "enospc", 6) ? FULL : !strncmp(wish, "short", 5) ? SHORT : !strncmp(wish, "write", 5) ? WRITE : SYNC;
    }
    unsetenv("LD_PRELOAD");
}

/* Whether a descriptor is a file below the data directory; its path and state if so. */
static int watched(int fd, char *path, struct stat *st) {
    pthread_once(&once, start);
    if (!data || !journals || fstat(fd, st) || !S_ISREG(st->st_mode)) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return !strncmp(path, data, strlen(data));
}

static int journal(const struct stat *st) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s/%llu", journals, (unsigned long long)st->st_ino);
    return syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void put(int fd, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n) {
        ssize_t done = syscall(SYS_write, fd, at, n);
        if (done <= 0) { perror("powercut journal"); _exit(99); }
        at += done;
        n -= done;
    }
}

static void record(int fd, const struct stat *st, uint64_t kind, uint64_t offset, const void *bytes, size_t n) {
    uint64_t size = st->st_size;
    uint64_t old = kind == 1 ? (offset >= size ? 0 : size - offset < n ? size - offset : n) : (offset >= size ? 0 : size - offset);
    uint64_t head[8] = {kind, offset, size, old, kind == 1 ? n : 0, 0, 0, 0};
    char *before = malloc(old ? old : 1);
    uint64_t got = 0;
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    int reader = syscall(SYS_openat, AT_FDCWD, own, O_RDONLY | O_CLOEXEC); /* fd may be open for writing alone */
    while (got < old) {
        ssize_t done = syscall(SYS_pread64, reader, before + got, old - got, (off_t)(offset + got));
        if (done <= 0) { perror("powercut read"); _exit(99); }
        got += done;
    }
    close(reader);
    int log = journal(st);
    put(log, head, sizeof head);
    put(log, before, old);
    if (kind == 1) put(log, bytes, n);
    close(log);
    free(before);
}

/* Counts a write and says what is to become of it: 0 it is done, 1 half of it, or an error. */
static int write_fault(void) {
    long n = ++writes;
    if (n < fault_at) return 0;
    switch (fault) {
        case FULL: return ENOSPC;
        case SHORT: return n == fault_at ? 1 : ENOSPC;
        case WRITE: return n == fault_at ? EIO : 0;
        default: return 0;
    }
}

static ssize_t write_at(int fd, const void *bytes, size_t n, off_t offset, int append) {
    char path[PATH_MAX];
    struct stat st;
    if (!watched(fd, path, &st)) return append ? syscall(SYS_write, fd, bytes, n) : syscall(SYS_pwrite64, fd, bytes, n, offset);
    pthread_mutex_lock(&lock);
    fstat(fd, &st);
    if (append) offset = fcntl(fd, F_GETFL) & O_APPEND ? st.st_size : lseek(fd, 0, SEEK_CUR);
    int bad = write_fault();
    ssize_t done = -1;
    if (bad > 1) {
        errno = bad;
    } else {
        if (bad == 1 && n > 1) n /= 2;
        record(fd, &st, 1, offset, bytes, n);
        done = append ? syscall(SYS_write, fd, bytes, n) : syscall(SYS_pwrite64, fd, bytes, n, offset);
    }
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}

ssize_t write(int fd, const void *bytes, size_t n) { return write_at(fd, bytes, n, 0, 1); }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) { return write_at(fd, bytes, n, offset, 0); }
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t offset) { return write_at(fd, bytes, n, offset, 0); }

static ssize_t write_all(int fd, const struct iovec *parts, int count, off_t offset, int append) {
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write_at(fd, parts[i].iov_base, parts[i].iov_len, offset + total, append);
        if (done < 0) return total ? total : -1;
        total += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return total;
}

ssize_t writev(int fd, const struct iovec *parts, int count) { return write_all(fd, parts, count, 0, 1); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return write_all(fd, parts, count, offset, 0); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return write_all(fd, parts, count, offset, 0); }

int ftruncate(int fd, off_t length) {
    char path[PATH_MAX];
    struct stat st;
    if (!watched(fd, path, &st)) return syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    fstat(fd, &st);
    int bad = length > st.st_size ? write_fault() : 0, done = -1;
    if (bad) {
        errno = bad == 1 ? ENOSPC : bad;
    } else {
        record(fd, &st, 2, length, NULL, 0);
        done = syscall(SYS_ftruncate, fd, length);
    }
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return done;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int synced(int fd, int only_data) {
    char path[PATH_MAX];
    struct stat st;
    if (!watched(fd, path, &st)) return syscall(only_data ? SYS_fdatasync : SYS_fsync, fd);
    pthread_mutex_lock(&lock);
    long n = ++syncs;
    int bad = fault == SYNC && n == fault_at, is_deaf = only_data && deaf && strstr(path, deaf);
    if (!bad && !is_deaf) {
        int log = journal(&st);
        syscall(SYS_ftruncate, log, 0);
        close(log);
    }
    pthread_mutex_unlock(&lock);
    if (bad) errno = EIO;
    return bad ? -1 : 0;
}

/* What is written survives the process in any case: only the journal has to forget it. */
int fdatasync(int fd) { return synced(fd, 1); }
int fsync(int fd) { return synced(fd, 0); }

/* Starts writing back and waits for it, but flushes no disk's cache and no file's length: it makes nothing durable. */
int sync_file_range(int fd, off64_t offset, off64_t length, unsigned int flags) {
    (void)fd; (void)offset; (void)length; (void)flags;
    return 0;
}

/* A file that goes takes its journal along: its inode may become another file's. */
static void forget(int at, const char *path) {
    char name[PATH_MAX];
    struct stat st;
    pthread_once(&once, start);
    if (!journals || fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode) || st.st_nlink > 1) return;
    snprintf(name, sizeof name, "%s/%llu", journals, (unsigned long long)st.st_ino);
    syscall(SYS_unlinkat, AT_FDCWD, name, 0);
}

int unlink(const char *path) {
    forget(AT_FDCWD, path);
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int at, const char *path, int flags) {
    forget(at, path);
    return syscall(SYS_unlinkat, at, path, flags);
}

int rename(const char *from, const char *to) {
    forget(AT_FDCWD, to);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
