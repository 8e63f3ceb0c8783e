/* dpdk_log.c -- what EAL and drivers have to say, kept for our own messages.
 *
 * DPDK tells results as numbers and reasons as log lines. The lines go into a small
 * buffer instead of to the terminal, and the telling one into the message of what failed.
 */
#include "dpdk_private.h"

#include <rte_log.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEPT 8192

static struct {
    pthread_mutex_t lock; /* drivers log from threads of their own */
    size_t length;
    size_t mark;
    char text[KEPT];
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep(const char *data, size_t size)
{
    size_t spare;

    pthread_mutex_lock(&kept.lock);
    if (size > KEPT / 2) {
        data += size - KEPT / 2;
        size = KEPT / 2;
    }
    if (kept.length + size > KEPT) {
        spare = kept.length + size - KEPT / 2;
        spare = spare < kept.length ? spare : kept.length;
        memmove(kept.text, kept.text + spare, kept.length - spare);
        kept.length -= spare;
        kept.mark = kept.mark > spare ? kept.mark - spare : 0;
    }
    memcpy(kept.text + kept.length, data, size);
    kept.length += size;
    pthread_mutex_unlock(&kept.lock);
}

static ssize_t stream_write(void *cookie, const char *data, size_t size)
{
    (void)cookie;
    keep(data, size);
    return (ssize_t)size;
}

bool aio_log_open(void)
{
    static FILE *stream;

    if (!stream)
        stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = stream_write});
    if (!stream)
        return false;
    setvbuf(stream, NULL, _IOLBF, 512);
    return rte_openlog_stream(stream) == 0;
}

void aio_log_mark(void)
{
    pthread_mutex_lock(&kept.lock);
    kept.mark = kept.length;
    pthread_mutex_unlock(&kept.lock);
}

size_t aio_dpdk_log(char *out, size_t size)
{
    size_t n;

    pthread_mutex_lock(&kept.lock);
    n = kept.length < size ? kept.length : size - 1;
    memcpy(out, kept.text + kept.length - n, n);
    out[n] = '\0';
    pthread_mutex_unlock(&kept.lock);
    return n;
}

/* ---- stderr ------------------------------------------------------------------------- */

int aio_log_stderr_begin(void)
{
    int saved = dup(STDERR_FILENO);
    int file = memfd_create("stderr", MFD_CLOEXEC);

    fflush(stderr);
    if (saved >= 0 && file >= 0)
        dup2(file, STDERR_FILENO);
    if (file >= 0)
        close(file);
    return saved;
}

void aio_log_stderr_end(int saved)
{
    char text[2048];
    ssize_t n;

    if (saved < 0)
        return;
    fflush(stderr);
    n = pread(STDERR_FILENO, text, sizeof text, 0);
    dup2(saved, STDERR_FILENO);
    close(saved);
    if (n > 0)
        keep(text, (size_t)n);
}

/* ---- messages ------------------------------------------------------------------------- */

/* The first line since the mark: what follows only says who was told of the failure. */
static bool first_line(char *out, size_t size)
{
    const char *start = kept.text + kept.mark, *end;
    size_t left = kept.length - kept.mark;

    for (; left && (*start == '\n' || *start == ' '); left--)
        start++;
    end = memchr(start, '\n', left);
    if (left == 0)
        return false;
    snprintf(out, size, "%.*s", (int)(end ? (size_t)(end - start) : left), start);
    return true;
}

int aio_dpdk_fail(char *message, int result, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(message, AIO_DPDK_MESSAGE, format, args);
    va_end(args);
    return result;
}

int aio_dpdk_fail_log(char *message, int result, const char *format, ...)
{
    char line[256];
    va_list args;
    size_t used;
    bool found;

    va_start(args, format);
    vsnprintf(message, AIO_DPDK_MESSAGE, format, args);
    va_end(args);
    used = strlen(message);
    pthread_mutex_lock(&kept.lock);
    found = first_line(line, sizeof line);
    pthread_mutex_unlock(&kept.lock);
    if (found)
        snprintf(message + used, AIO_DPDK_MESSAGE - used, " (DPDK: %s)", line);
    return result;
}
