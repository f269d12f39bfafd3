/* Faults of a disk, for the process that this is preloaded into (LD_PRELOAD).
 *
 * Stands between a program and libc for every call that changes files under one folder, so that
 * Python and SQLite meet the same disk. The n-th such call from now on fails, is cut short, or
 * never returns because the process kills itself. Orders come through a page of shared memory, a
 * file that FAULTS_CONTROL names: a test gives them while the program runs. On request every call
 * that succeeded is written to a trace, from which the test makes the disk that a loss of power
 * would have left.
 *
 * Built by tests/disk_faults.py: cc -shared -fPIC -O1 -pthread faults.c
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { OFF, FAIL, SHORT, KILL_BEFORE, KILL_AFTER, KILL_AMID };
enum kind {
    WRITE = 1, SYNC = 2, RENAME = 4, CREATE = 8, UNLINK = 16, MKDIR = 32, TRUNCATE = 64, LINK = 128,
    RMDIR = 256, REOPEN = 512 /* for writing, of a file that exists */
};

/* Layout shared with tests/disk_faults.py. */
struct control {
    uint32_t action, error, kinds, lasting;
    int64_t left;   /* calls until the fault: 1 is the next one; 0 and below: it has struck */
    uint64_t calls; /* of the chosen kinds, since the orders were given */
    uint64_t struck;
    uint64_t traced;
    char folder[1024], trace[1024], only[256];
};

static struct control *control;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))next_symbol(#name))

static void *next_symbol(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_CONTROL");
    int file = path ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REAL(close)(file);
    if (page != MAP_FAILED)
        control = page;
}

/* --- which calls are meant ------------------------------------------------------------------- */

static const char *inside(const char *path)
{
    if (!control || !control->folder[0])
        return NULL;
    size_t length = strlen(control->folder);
    if (strncmp(path, control->folder, length) || (path[length] != '/' && path[length]))
        return NULL;
    return path[length] ? path + length + 1 : path + length;
}

static const char *path_of(int file, char *room)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, room, PATH_MAX - 1);
    room[length > 0 ? length : 0] = 0;
    return inside(room);
}

static const char *path_at(int folder, const char *path, char *room)
{
    if (!control || !path)
        return NULL;
    if (path[0] == '/') {
        snprintf(room, PATH_MAX, "%s", path);
        return inside(room);
    }
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base))
            return NULL;
    } else {
        path_of(folder, base);
    }
    if (strlen(base) + strlen(path) + 2 > PATH_MAX)
        return NULL;
    strcpy(room, base);
    strcat(room, "/");
    strcat(room, path);
    return inside(room);
}

/* --- the trace ------------------------------------------------------------------------------- */

struct record {
    uint32_t kind, path, other;
    uint32_t unused;
    uint64_t inode;
    int64_t offset;
    uint64_t data;
};

static uint64_t inode_of(int file)
{
    struct stat about;
    return fstat(file, &about) ? 0 : (uint64_t)about.st_ino;
}

static void trace(uint32_t kind, uint64_t inode, int64_t offset, const char *path,
                  const char *other, const struct iovec *parts, int count, size_t bytes)
{
    if (!control->trace[0])
        return;
    int saved = errno;
    int file = REAL(open)(control->trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct record head = {kind, strlen(path), other ? strlen(other) : 0, 0, inode, offset, bytes};
    size_t size = sizeof head + head.path + head.other + bytes;
    char *record = malloc(size), *place = record;
    place = mempcpy(place, &head, sizeof head);
    place = mempcpy(place, path, head.path);
    place = mempcpy(place, other ? other : "", head.other);
    for (int i = 0; i < count && bytes; i++) {
        size_t some = parts[i].iov_len < bytes ? parts[i].iov_len : bytes;
        place = mempcpy(place, parts[i].iov_base, some);
        bytes -= some;
    }
    if (file < 0 || REAL(write)(file, record, size) != (ssize_t)size)
        abort();
    free(record);
    REAL(close)(file);
    control->traced++;
    errno = saved;
}

/* --- the fault ------------------------------------------------------------------------------- */

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Whether this call is the one, and what to do: OFF, or the action. Holds the turn. */
static uint32_t enter(uint32_t kind, const char *path)
{
    pthread_mutex_lock(&turn);
    if (!(control->kinds & kind) || (control->only[0] && !strstr(path, control->only)))
        return OFF;
    control->calls++;
    if (control->action == OFF)
        return OFF;
    control->left--;
    if (control->left > 0 || (control->left < 0 && !control->lasting))
        return OFF;
    control->struck++;
    if (control->action == KILL_BEFORE)
        die();
    return control->action;
}

static void leave(uint32_t action)
{
    if (action == KILL_AFTER || action == KILL_AMID)
        die();
    pthread_mutex_unlock(&turn);
}

/* A call that either happens or does not: `call` is its int result, `note` what it leaves. */
#define WHOLE(kind, path, call, note)                                                              \
    do {                                                                                           \
        uint32_t action = enter(kind, path);                                                       \
        int result = -1, failed = action == FAIL;                                                  \
        if (failed)                                                                                \
            errno = (int)control->error;                                                           \
        else if ((result = (call)) >= 0)                                                           \
            note;                                                                                  \
        leave(action);                                                                             \
        return result;                                                                             \
    } while (0)

/* --- contents -------------------------------------------------------------------------------- */

static ssize_t put(int file, const struct iovec *parts, int count, off64_t offset, int placed,
                   const char *path)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    uint32_t action = enter(WRITE, path);
    ssize_t done = -1;
    if (action == FAIL) {
        errno = (int)control->error;
    } else {
        if (!placed)
            offset = fcntl(file, F_GETFL) & O_APPEND ? lseek64(file, 0, SEEK_END)
                                                     : lseek64(file, 0, SEEK_CUR);
        if ((action == SHORT || action == KILL_AMID) && bytes > 1) {
            struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};
            done = placed ? REAL(pwrite64)(file, half.iov_base, half.iov_len, offset)
                          : REAL(write)(file, half.iov_base, half.iov_len);
        } else {
            done = placed ? REAL(pwritev64)(file, parts, count, offset)
                          : REAL(writev)(file, parts, count);
        }
        if (done > 0)
            trace(WRITE, inode_of(file), offset, path, NULL, parts, count, (size_t)done);
    }
    leave(action);
    return done;
}

ssize_t write(int file, const void *data, size_t size)
{
    char room[PATH_MAX];
    const char *path = control ? path_of(file, room) : NULL;
    struct iovec part = {(void *)data, size};
    return path ? put(file, &part, 1, 0, 0, path) : REAL(write)(file, data, size);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset)
{
    char room[PATH_MAX];
    const char *path = control ? path_of(file, room) : NULL;
    struct iovec part = {(void *)data, size};
    return path ? put(file, &part, 1, offset, 1, path) : REAL(pwrite64)(file, data, size, offset);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset)
{
    return pwrite64(file, data, size, offset);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    char room[PATH_MAX];
    const char *path = control ? path_of(file, room) : NULL;
    return path ? put(file, parts, count, 0, 0, path) : REAL(writev)(file, parts, count);
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t offset)
{
    char room[PATH_MAX];
    const char *path = control ? path_of(file, room) : NULL;
    return path ? put(file, parts, count, offset, 1, path)
                : REAL(pwritev64)(file, parts, count, offset);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset)
{
    return pwritev64(file, parts, count, offset);
}

int ftruncate64(int file, off64_t size)
{
    char room[PATH_MAX];
    const char *path = control ? path_of(file, room) : NULL;
    if (!path)
        return REAL(ftruncate64)(file, size);
    WHOLE(TRUNCATE, path, REAL(ftruncate64)(file, size),
          trace(TRUNCATE, inode_of(file), size, path, NULL, NULL, 0, 0));
}

int ftruncate(int file, off_t size)
{
    return ftruncate64(file, size);
}

static int synced(int file, int (*sync)(int))
{
    char room[PATH_MAX];
    const char *path = control ? path_of(file, room) : NULL;
    if (!path)
        return sync(file);
    WHOLE(SYNC, path, sync(file), trace(SYNC, inode_of(file), 0, path, NULL, NULL, 0, 0));
}

int fsync(int file)
{
    return synced(file, REAL(fsync));
}

int fdatasync(int file)
{
    return synced(file, REAL(fdatasync));
}

/* Ways to fill a file that the trace cannot follow: say no, and the caller takes write(). */
#define REFUSED(file, code, real)                                                                  \
    do {                                                                                           \
        char room[PATH_MAX];                                                                       \
        if (control && path_of(file, room)) {                                                      \
            errno = code;                                                                          \
            return -1;                                                                             \
        }                                                                                          \
        return real;                                                                               \
    } while (0)

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags)
{
    REFUSED(out, ENOSYS, REAL(copy_file_range)(in, from, out, to, size, flags));
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size)
{
    REFUSED(out, ENOTSOCK, REAL(sendfile64)(out, in, offset, size));
}

ssize_t sendfile(int out, int in, off_t *offset, size_t size)
{
    return sendfile64(out, in, offset, size);
}

int fallocate64(int file, int mode, off64_t offset, off64_t size)
{
    REFUSED(file, EOPNOTSUPP, REAL(fallocate64)(file, mode, offset, size));
}

int fallocate(int file, int mode, off_t offset, off_t size)
{
    return fallocate64(file, mode, offset, size);
}

/* --- names ----------------------------------------------------------------------------------- */

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    char room[PATH_MAX];
    const char *short_path = (flags & (O_CREAT | O_WRONLY | O_RDWR)) && (flags & O_TMPFILE) != O_TMPFILE
                                 ? path_at(folder, path, room)
                                 : NULL;
    if (!short_path)
        return REAL(openat64)(folder, path, flags, mode);
    struct stat about;
    int missing = lstat(room, &about);
    if (missing && !(flags & O_CREAT))
        return REAL(openat64)(folder, path, flags, mode);
    uint32_t action = enter(missing ? CREATE : REOPEN, short_path);
    int file = -1;
    if (action == FAIL) {
        errno = (int)control->error;
    } else if ((file = REAL(openat64)(folder, path, flags, mode)) >= 0) {
        if (missing)
            trace(CREATE, inode_of(file), 0, short_path, NULL, NULL, 0, 0);
        else if (flags & O_TRUNC)
            trace(TRUNCATE, inode_of(file), 0, short_path, NULL, NULL, 0, 0);
    }
    leave(action);
    return file;
}

#define MODE(flags, last)                                                                          \
    mode_t mode = 0;                                                                               \
    if (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE) {                                   \
        va_list rest;                                                                              \
        va_start(rest, last);                                                                      \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    MODE(flags, flags)
    return opened(folder, path, flags | O_LARGEFILE, mode);
}

/* What a fortified build calls when no mode is given. */
int __open_2(const char *path, int flags)
{
    return opened(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
    return opened(AT_FDCWD, path, flags | O_LARGEFILE, 0);
}

int __openat_2(int folder, const char *path, int flags)
{
    return opened(folder, path, flags, 0);
}

int __openat64_2(int folder, const char *path, int flags)
{
    return opened(folder, path, flags | O_LARGEFILE, 0);
}

/* Names leave or enter the folder only together with both ends inside it; others are not ours. */
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    char old_room[PATH_MAX], new_room[PATH_MAX];
    const char *old = path_at(from_folder, from, old_room), *new = path_at(to_folder, to, new_room);
    if (!old || !new)
        return REAL(renameat2)(from_folder, from, to_folder, to, flags);
    WHOLE(RENAME, new, REAL(renameat2)(from_folder, from, to_folder, to, flags),
          trace(RENAME, 0, 0, old, new, NULL, 0, 0));
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, 0);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    char old_room[PATH_MAX], new_room[PATH_MAX];
    const char *old = path_at(from_folder, from, old_room), *new = path_at(to_folder, to, new_room);
    if (!old || !new)
        return REAL(linkat)(from_folder, from, to_folder, to, flags);
    WHOLE(LINK, new, REAL(linkat)(from_folder, from, to_folder, to, flags),
          trace(LINK, 0, 0, old, new, NULL, 0, 0));
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int folder, const char *path, int flags)
{
    char room[PATH_MAX];
    const char *name = path_at(folder, path, room);
    if (!name)
        return REAL(unlinkat)(folder, path, flags);
    uint32_t kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    WHOLE(kind, name, REAL(unlinkat)(folder, path, flags),
          trace(kind, 0, 0, name, NULL, NULL, 0, 0));
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    char room[PATH_MAX];
    const char *name = path_at(folder, path, room);
    if (!name)
        return REAL(mkdirat)(folder, path, mode);
    WHOLE(MKDIR, name, REAL(mkdirat)(folder, path, mode),
          trace(MKDIR, 0, 0, name, NULL, NULL, 0, 0));
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}
