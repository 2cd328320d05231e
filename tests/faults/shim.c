/* Makes calls to the system fail on files below a folder: a full or dying disk, a quota, a disk
 * that may only be read. Preloaded (LD_PRELOAD) into real processes, and told by the environment:
 *
 *   MCR_FAULT_FOLDER  only files whose paths begin with this
 *   MCR_FAULT_CALLS   of which groups, separated by commas: write, sync, truncate, close, rename,
 *                     open (for writing), read
 *   MCR_FAULT_AT      the call that fails, from 1; 0 counts only
 *   MCR_FAULT_ERRNO   what it fails with; 0 makes a write short instead
 *   MCR_FAULT_ON      1: and all that follow
 *   MCR_FAULT_LOG     a file that gets the number of such calls when the process ends
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static const long SHORT = -1, NONE = 0;

static long number(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

static int below(const char *path) {
    const char *folder = getenv("MCR_FAULT_FOLDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int of_file(int file, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, size - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

/* The error of this call on this path, SHORT, or NONE. */
static long fault_at(const char *group, const char *path) {
    const char *groups = getenv("MCR_FAULT_CALLS");
    if (!groups || !strstr(groups, group) || !below(path)) return NONE;
    long at = number("MCR_FAULT_AT"), now = atomic_fetch_add(&calls, 1) + 1;
    if (!at || now < at || (now > at && !number("MCR_FAULT_ON"))) return NONE;
    long error = number("MCR_FAULT_ERRNO");
    return error ? error : SHORT;
}

static long fault(const char *group, int file) {
    char path[4096];
    int saved = errno;
    long found = of_file(file, path, sizeof path) ? fault_at(group, path) : NONE;
    errno = saved;
    return found;
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

static void forked(void) { atomic_store(&calls, 0); }

__attribute__((constructor)) static void begin(void) { pthread_atfork(NULL, NULL, forked); }

__attribute__((destructor)) static void end(void) {
    const char *log = getenv("MCR_FAULT_LOG");
    long made = atomic_load(&calls);
    if (!log || !made) return;
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", made);
    int file = syscall(SYS_openat, AT_FDCWD, log, O_CREAT | O_WRONLY | O_APPEND, 0666);
    if (file >= 0) {
        if (syscall(SYS_write, file, text, length) < 0) return;
        syscall(SYS_close, file);
    }
}

#define FAIL(group, file)                             \
    long found = fault(group, file);                  \
    if (found > 0) {                                  \
        errno = found;                                \
        return -1;                                    \
    }
#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))next(name))

ssize_t write(int file, const void *data, size_t size) {
    FAIL("write", file)
    if (found == SHORT && size > 1) size /= 2;
    return REAL(ssize_t, "write", int, const void *, size_t)(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    FAIL("write", file)
    if (found == SHORT && size > 1) size /= 2;
    return REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(file, data, size, at);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return pwrite64(file, data, size, at);
}

ssize_t writev(int file, const struct iovec *data, int count) {
    FAIL("write", file)
    if (found == SHORT && count > 1) count /= 2;
    return REAL(ssize_t, "writev", int, const struct iovec *, int)(file, data, count);
}

ssize_t pwritev64(int file, const struct iovec *data, int count, off64_t at) {
    FAIL("write", file)
    return REAL(ssize_t, "pwritev64", int, const struct iovec *, int, off64_t)(file, data, count, at);
}

ssize_t pwritev(int file, const struct iovec *data, int count, off_t at) {
    return pwritev64(file, data, count, at);
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
    FAIL("write", out)
    return REAL(ssize_t, "sendfile64", int, int, off64_t *, size_t)(out, in, at, size);
}

ssize_t sendfile(int out, int in, off_t *at, size_t size) { return sendfile64(out, in, at, size); }

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    FAIL("write", out)
    return REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned)(
        in, from, out, to, size, flags);
}

/* glibc's streams call the kernel without the exported names. */
size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    long found = fault("write", fileno(stream));
    if (found > 0) {
        errno = found;
        return 0;
    }
    return REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *)(data, size, count, stream);
}

int fflush(FILE *stream) {
    if (stream) {
        FAIL("write", fileno(stream))
    }
    return REAL(int, "fflush", FILE *)(stream);
}

/* What was only read is closed without an error. */
static long close_fault(int file) {
    int flags = fcntl(file, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY ? fault("close", file) : NONE;
}

/* A stream is closed even where closing says that it failed. */
int fclose(FILE *stream) {
    long found = close_fault(fileno(stream));
    int done = REAL(int, "fclose", FILE *)(stream);
    if (found > 0) {
        errno = found;
        return EOF;
    }
    return done;
}

int close(int file) {
    long found = close_fault(file);
    int done = REAL(int, "close", int)(file);
    if (found > 0) {
        errno = found;
        return -1;
    }
    return done;
}

int fsync(int file) {
    FAIL("sync", file)
    return REAL(int, "fsync", int)(file);
}

int fdatasync(int file) {
    FAIL("sync", file)
    return REAL(int, "fdatasync", int)(file);
}

int ftruncate64(int file, off64_t size) {
    FAIL("truncate", file)
    return REAL(int, "ftruncate64", int, off64_t)(file, size);
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

static int path_fault(const char *group, const char *path) {
    char whole[8192], here[4096];
    if (*path != '/' && getcwd(here, sizeof here)) {
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    long found = fault_at(group, path);
    if (found <= 0) return 0;
    errno = found;
    return 1;
}

int rename(const char *from, const char *to) {
    if (path_fault("rename", to)) return -1;
    return REAL(int, "rename", const char *, const char *)(from, to);
}

int renameat(int at, const char *from, int into, const char *to) {
    if (path_fault("rename", to)) return -1;
    return REAL(int, "renameat", int, const char *, int, const char *)(at, from, into, to);
}

int link(const char *from, const char *to) {
    if (path_fault("rename", to)) return -1;
    return REAL(int, "link", const char *, const char *)(from, to);
}

int linkat(int at, const char *from, int into, const char *to, int flags) {
    if (path_fault("rename", to)) return -1;
    return REAL(int, "linkat", int, const char *, int, const char *, int)(at, from, into, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    if (path_fault("open", path)) return -1;
    return REAL(int, "mkdir", const char *, mode_t)(path, mode);
}

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT); }

#define MODE                                          \
    mode_t mode = 0;                                  \
    if (flags & O_CREAT) {                            \
        va_list more;                                 \
        va_start(more, flags);                        \
        mode = va_arg(more, mode_t);                  \
        va_end(more);                                 \
    }                                                 \
    if (writes(flags) && path_fault("open", path)) return -1;

int open64(const char *path, int flags, ...) {
    MODE
    return REAL(int, "open64", const char *, int, ...)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE
    return REAL(int, "open64", const char *, int, ...)(path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE
    return REAL(int, "openat64", int, const char *, int, ...)(at, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE
    return REAL(int, "openat64", int, const char *, int, ...)(at, path, flags, mode);
}

FILE *fopen64(const char *path, const char *how) {
    if (strpbrk(how, "wa+") && path_fault("open", path)) return NULL;
    return REAL(FILE *, "fopen64", const char *, const char *)(path, how);
}

FILE *fopen(const char *path, const char *how) { return fopen64(path, how); }

ssize_t read(int file, void *data, size_t size) {
    FAIL("read", file)
    if (found == SHORT && size > 1) size /= 2;
    return REAL(ssize_t, "read", int, void *, size_t)(file, data, size);
}

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    FAIL("read", file)
    if (found == SHORT && size > 1) size /= 2;
    return REAL(ssize_t, "pread64", int, void *, size_t, off64_t)(file, data, size, at);
}

ssize_t pread(int file, void *data, size_t size, off_t at) {
    return pread64(file, data, size, at);
}

ssize_t preadv64(int file, const struct iovec *data, int count, off64_t at) {
    FAIL("read", file)
    return REAL(ssize_t, "preadv64", int, const struct iovec *, int, off64_t)(file, data, count, at);
}

ssize_t preadv(int file, const struct iovec *data, int count, off_t at) {
    return preadv64(file, data, count, at);
}

size_t fread(void *data, size_t size, size_t count, FILE *stream) {
    long found = fault("read", fileno(stream));
    if (found > 0) {
        errno = found;
        return 0;
    }
    return REAL(size_t, "fread", void *, size_t, size_t, FILE *)(data, size, count, stream);
}
