/* input.c -- opening and reading the bytes of a capture. */
#include "input.h"

#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int input_fail(struct aio_input *in, int error)
{
    switch (error) {
    case ENOENT:
        strcpy(in->error, "no such file");
        break;
    case EISDIR:
        strcpy(in->error, "is a directory");
        break;
    case EACCES:
        strcpy(in->error, "permission denied");
        break;
    case EMFILE:
        strcpy(in->error, "too many open files: raise the limit (ulimit -n)");
        break;
    default:
        snprintf(in->error, sizeof in->error, "%s", strerror(error));
    }
    errno = error;
    return AIO_EIO;
}

/* Regular files are read by position, so that standard input redirected from one is as
 * good as its name. All else (pipes, sockets, terminals, devices) is read in order. */
static int input_classify(struct aio_input *in)
{
    struct stat st;

    if (fstat(in->fd, &st) < 0)
        return input_fail(in, errno);
    if (S_ISDIR(st.st_mode))
        return input_fail(in, EISDIR);
    in->pollable = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
    in->seekable = S_ISREG(st.st_mode);
    if (in->seekable) {
        off_t here = in->own_fd ? 0 : lseek(in->fd, 0, SEEK_CUR);

        in->pos = in->start = here > 0 ? (uint64_t)here : 0;
        in->size = (uint64_t)st.st_size;
        posix_fadvise(in->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    return AIO_OK;
}

int aio_input_open(struct aio_input *in, const char *path)
{
    int r;

    memset(in, 0, sizeof *in);
    in->own_fd = strcmp(path, "-") != 0;
    in->fd = in->own_fd ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (in->fd < 0)
        return input_fail(in, errno);
    r = input_classify(in);
    if (r < 0) {
        int error = errno;

        aio_input_close(in);
        errno = error;
    }
    return r;
}

void aio_input_close(struct aio_input *in)
{
    if (in->own_fd && in->fd >= 0)
        close(in->fd);
    in->fd = -1;
    aio_gunzip_free(in->gunzip);
    in->gunzip = NULL;
}

static ssize_t input_take_peeked(struct aio_input *in, uint8_t *buf, size_t len)
{
    size_t n = len < in->n_peeked ? len : in->n_peeked;

    memcpy(buf, in->peeked, n);
    memmove(in->peeked, in->peeked + n, in->n_peeked - n);
    in->n_peeked -= (unsigned)n;
    return (ssize_t)n;
}

/* One system call. Only a pipe's wait is worth interrupting. */
static ssize_t input_syscall(struct aio_input *in, uint8_t *buf, size_t len)
{
    for (;;) {
        ssize_t n =
            in->seekable ? pread(in->fd, buf, len, (off_t)in->pos) : read(in->fd, buf, len);
        if (n >= 0) {
            in->pos += (uint64_t)n;
            return n;
        }
        if (errno != EINTR)
            return input_fail(in, errno);
        if (!in->seekable)
            return AIO_INTERRUPTED;
    }
}

ssize_t aio_input_read_raw(struct aio_input *in, uint8_t *buf, size_t len)
{
    if (in->n_peeked)
        return input_take_peeked(in, buf, len);
    return input_syscall(in, buf, len);
}

/* Looks at the first two bytes: gzip or not. 1 when that is decided. */
static ssize_t input_sniff(struct aio_input *in)
{
    while (in->n_peeked < sizeof in->peeked) {
        ssize_t n =
            input_syscall(in, in->peeked + in->n_peeked, sizeof in->peeked - in->n_peeked);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        in->n_peeked += (unsigned)n;
    }
    in->sniffed = true;
    if (in->n_peeked < 2 || in->peeked[0] != 0x1f || in->peeked[1] != 0x8b)
        return 1;
    in->gzip = true;
    in->gunzip = aio_gunzip_new();
    if (in->gunzip)
        return 1;
    strcpy(in->error, "out of memory");
    return AIO_ENOMEM;
}

ssize_t aio_input_read(struct aio_input *in, uint8_t *buf, size_t len)
{
    if (!in->sniffed) {
        ssize_t r = input_sniff(in);

        if (r < 0)
            return r;
    }
    if (in->gunzip)
        return aio_gunzip_read(in->gunzip, in, buf, len);
    return aio_input_read_raw(in, buf, len);
}
