/* input.h -- bytes of a capture from wherever they lie: a file read by position, a pipe,
 * either of them compressed with gzip. */
#ifndef AIO_INPUT_H
#define AIO_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A signal came while a pipe's read was waiting; nothing is lost by calling again. */
#define AIO_INTERRUPTED (-100)

struct aio_gunzip;

struct aio_input {
    int fd;
    bool own_fd;    /* close it: not standard input */
    bool seekable;  /* read by position */
    bool sniffed;   /* its first bytes were looked at, gunzip is decided */
    bool pollable;  /* fd may be waited on */
    bool gzip;      /* sniffed, and so it is */
    bool cut;       /* end of input came in the middle of a compressed member */
    uint64_t pos;   /* bytes read from fd (or: the position in it) */
    uint64_t start; /* position of the first byte */
    uint64_t size;  /* bytes in all, 0 = unknown */
    struct aio_gunzip *gunzip;
    uint8_t peeked[2]; /* of a pipe: read while sniffing, not handed out yet */
    unsigned n_peeked;
    char error[160]; /* what the last failure was, in words */
};

/* AIO_OK, or AIO_EIO or AIO_ENOMEM with in->error set. Reads nothing from a pipe. */
int aio_input_open(struct aio_input *in, const char *path);

/* At least one byte into buf; 0 at the end; AIO_EIO, AIO_ECORRUPT or AIO_ENOMEM with
 * in->error set; AIO_INTERRUPTED. */
ssize_t aio_input_read(struct aio_input *in, uint8_t *buf, size_t len);

void aio_input_close(struct aio_input *in);

/* As read() or pread(), without gunzip; for gunzip's own use. */
ssize_t aio_input_read_raw(struct aio_input *in, uint8_t *buf, size_t len);

/* gunzip.c */
struct aio_gunzip *aio_gunzip_new(void);
ssize_t aio_gunzip_read(struct aio_gunzip *gz, struct aio_input *in, uint8_t *buf,
                        size_t len);
void aio_gunzip_free(struct aio_gunzip *gz);

#endif
