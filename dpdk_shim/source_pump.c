/* source_pump.c -- a thread that empties a source into a ring, and the ring as a source.
 *
 * The thread owns the inner source and the ring's writing end, the consumer the reading
 * end; what they tell each other besides is atomic. Inner's end is published before the
 * ring's, so whoever has read the ring to its end may look at it.
 */
#include "base.h"
#include "ring.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_BYTES ((uint64_t)256 << 20)
#define NAP_MS 1

/* What the outer source's stats take from inner's. */
enum {
    DROPPED_NIC,
    DROPPED_KERNEL,
    DROPPED_RING,
    CUT,
    QUEUED,
    INPUT_POS,
    INPUT_SIZE,
    N_SEEN
};

struct aio_pump {
    struct aio_source pub;
    struct aio_source *inner; /* the thread's; but transmit(), where it may be */
    struct aio_source *ring;  /* the consumer's */
    struct aio_ring_writer *writer;
    pthread_t thread;
    int stop_event;
    uint64_t transmitted;
    _Atomic bool stop;
    _Atomic bool look; /* the consumer wants newer counters */
    _Atomic int result;
    _Atomic uint32_t time_precision;
    _Atomic uint64_t seen[N_SEEN];
    char message[256]; /* of inner's end; valid once result is not 0 */
};

static struct aio_pump *pump_of(struct aio_source *src)
{
    return (struct aio_pump *)src;
}

/* ---- the thread ------------------------------------------------------------------- */

static void show_stats(struct aio_pump *pump)
{
    struct aio_source_stats stats;

    atomic_store(&pump->look, false);
    pump->inner->ops->stats(pump->inner, &stats);
    aio_ring_set64(&pump->seen[DROPPED_NIC], stats.dropped_nic);
    aio_ring_set64(&pump->seen[DROPPED_KERNEL], stats.dropped_kernel);
    aio_ring_set64(&pump->seen[DROPPED_RING], stats.dropped_ring);
    aio_ring_set64(&pump->seen[CUT], stats.cut);
    aio_ring_set64(&pump->seen[QUEUED], stats.queued);
    aio_ring_set64(&pump->seen[INPUT_POS], stats.input_pos);
    aio_ring_set64(&pump->seen[INPUT_SIZE], stats.input_size);
    atomic_store_explicit(&pump->time_precision, pump->inner->time_precision,
                          memory_order_relaxed);
}

/* Until inner may have something, or somebody wants the thread. A descriptor in error would
 * be ready for ever: it is inner's to notice, without a processor kept busy meanwhile. */
static void wait_for_inner(struct aio_pump *pump)
{
    int fd = pump->inner->ops->descriptor(pump->inner);
    struct pollfd fds[2] = {{.fd = pump->stop_event, .events = POLLIN},
                            {.fd = fd, .events = POLLIN}};
    uint64_t count;

    if (poll(fds, 2, fd >= 0 ? -1 : NAP_MS) <= 0)
        return;
    if (fds[1].revents && !(fds[1].revents & POLLIN))
        poll(fds, 1, NAP_MS);
    if (fds[0].revents && read(pump->stop_event, &count, sizeof count) > 0)
        show_stats(pump);
}

static void pass_on(struct aio_pump *pump, const struct aio_frame *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        aio_ring_push(pump->writer, &frames[i]);
    pump->inner->ops->release(pump->inner, frames, n);
    aio_ring_publish(pump->writer);
}

/* One burst; false at inner's end. */
static bool pump_once(struct aio_pump *pump)
{
    struct aio_frame frames[AIO_BURST_MAX];
    int n = pump->inner->ops->burst(pump->inner, frames, AIO_BURST_MAX);

    if (n > 0)
        pass_on(pump, frames, (unsigned)n);
    if (n <= 0 || atomic_load_explicit(&pump->look, memory_order_relaxed))
        show_stats(pump);
    if (n == 0)
        wait_for_inner(pump);
    if (n >= 0)
        return true;
    memcpy(pump->message, pump->inner->message, sizeof pump->message);
    atomic_store(&pump->result, n);
    return false;
}

static void *pump_run(void *arg)
{
    struct aio_pump *pump = arg;

    while (!atomic_load_explicit(&pump->stop, memory_order_relaxed) && pump_once(pump))
        ;
    aio_ring_end(pump->writer);
    return NULL;
}

/* ---- operations of the outer source ----------------------------------------------- */

static int pump_fail(struct aio_pump *pump, int result)
{
    memcpy(pump->pub.message, pump->ring->message, sizeof pump->pub.message);
    return result;
}

static int pump_burst(struct aio_source *src, struct aio_frame *out, unsigned max)
{
    struct aio_pump *pump = pump_of(src);
    int n = pump->ring->ops->burst(pump->ring, out, max);

    src->time_precision = atomic_load_explicit(&pump->time_precision, memory_order_relaxed);
    if (n >= 0)
        return n;
    if (n != AIO_END)
        return pump_fail(pump, n);
    memcpy(src->message, pump->message, sizeof src->message);
    return atomic_load(&pump->result);
}

static void pump_release(struct aio_source *src, const struct aio_frame *frames, unsigned n)
{
    struct aio_pump *pump = pump_of(src);

    pump->ring->ops->release(pump->ring, frames, n);
}

static int pump_retain(struct aio_source *src, struct aio_frame *frame)
{
    struct aio_pump *pump = pump_of(src);
    int r = pump->ring->ops->retain(pump->ring, frame);

    return r < 0 ? pump_fail(pump, r) : r;
}

/* Inner's message is not read: it may be the thread that is writing it. */
static int pump_transmit(struct aio_source *src, uint16_t port,
                         const struct aio_frame *frames, unsigned n)
{
    struct aio_pump *pump = pump_of(src);
    int r;

    if (!(src->caps & AIO_CAP_TRANSMIT))
        return aio_fail(src, AIO_ENOTSUP,
                        "this source cannot send while a receive thread reads it: "
                        "open it without one");
    r = pump->inner->ops->transmit(pump->inner, port, frames, n);
    if (r < 0)
        return aio_fail(src, r, "sending out of port %u failed: %s", port,
                        aio_result_name(r));
    pump->transmitted += (unsigned)r;
    return r;
}

static int pump_descriptor(struct aio_source *src)
{
    struct aio_pump *pump = pump_of(src);

    return pump->ring->ops->descriptor(pump->ring);
}

/* Of the ring what there is now, of inner what the thread saw last: when it went to sleep,
 * or, busy, a burst after it was last asked. Who asks gets newer counters the next time. */
static void pump_stats(struct aio_source *src, struct aio_source_stats *out)
{
    struct aio_pump *pump = pump_of(src);

    if (!atomic_exchange(&pump->look, true))
        aio_ring_wake(pump->stop_event);
    pump->ring->ops->stats(pump->ring, out);
    out->dropped_nic = aio_ring_get64(&pump->seen[DROPPED_NIC]);
    out->dropped_kernel = aio_ring_get64(&pump->seen[DROPPED_KERNEL]);
    out->dropped_ring += aio_ring_get64(&pump->seen[DROPPED_RING]);
    out->cut = aio_ring_get64(&pump->seen[CUT]);
    out->queued += aio_ring_get64(&pump->seen[QUEUED]);
    out->input_pos = aio_ring_get64(&pump->seen[INPUT_POS]);
    out->input_size = aio_ring_get64(&pump->seen[INPUT_SIZE]);
    out->transmitted = pump->transmitted;
}

/* Whatever of it there is; inner only once it belongs to us. */
static void pump_free(struct aio_pump *pump)
{
    if (pump->writer)
        aio_ring_writer_close(pump->writer);
    if (pump->ring)
        pump->ring->ops->close(pump->ring);
    if (pump->stop_event >= 0)
        close(pump->stop_event);
    free(pump);
}

static void pump_close(struct aio_source *src)
{
    struct aio_pump *pump = pump_of(src);

    atomic_store(&pump->stop, true);
    aio_ring_wake(pump->stop_event);
    pthread_join(pump->thread, NULL);
    pump->inner->ops->close(pump->inner);
    pump_free(pump);
}

static const struct aio_source_ops pump_ops = {
    .burst = pump_burst,
    .release = pump_release,
    .retain = pump_retain,
    .transmit = pump_transmit,
    .descriptor = pump_descriptor,
    .stats = pump_stats,
    .close = pump_close,
};

/* ---- opening ---------------------------------------------------------------------- */

static int pump_ring(struct aio_pump *pump, const struct aio_pump_options *opt,
                     char *message)
{
    struct aio_ring_options reading = {.end = 1};
    struct aio_ring *ring;
    int r;

    reading.retain_budget = opt ? opt->retain_budget : 0;
    r = aio_ring_create(&ring, opt && opt->ring_bytes ? opt->ring_bytes : RING_BYTES, 0,
                        message);
    if (r < 0)
        return r;
    r = aio_ring_writer_open(&pump->writer, ring, message);
    if (r == AIO_OK)
        r = aio_ring_source_open(&pump->ring, ring, &reading, message);
    aio_ring_put(ring);
    return r;
}

/* Signals are for the thread that runs Python: no other would have its handlers run. */
static int pump_start(struct aio_pump *pump, char *message)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&pump->thread, NULL, pump_run, pump);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return aio_ring_fail(message, AIO_ENOMEM, "no thread to receive with: %s",
                             strerror(error));
    pthread_setname_np(pump->thread, "aiomos-receive");
    return AIO_OK;
}

static void pump_adopt(struct aio_pump *pump, struct aio_source *inner)
{
    uint32_t both = AIO_CAP_TRANSMIT | AIO_CAP_TRANSMIT_THREAD;

    pump->inner = inner;
    pump->pub.ops = &pump_ops;
    pump->pub.caps = AIO_CAP_RING | (inner->caps & AIO_CAP_LIVE);
    if ((inner->caps & both) == both)
        pump->pub.caps |= AIO_CAP_TRANSMIT;
    pump->pub.time_precision = inner->time_precision;
    show_stats(pump);
}

int aio_pump_open(struct aio_source **out, struct aio_source *inner,
                  const struct aio_pump_options *opt, char *message)
{
    struct aio_pump *pump = calloc(1, sizeof *pump);
    int r;

    *out = NULL;
    if (!pump)
        return aio_ring_fail(message, AIO_ENOMEM, "out of memory");
    pump_adopt(pump, inner);
    pump->stop_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pump->stop_event < 0)
        r = aio_ring_fail(message, AIO_EIO, "no event descriptor for a receive thread");
    else
        r = pump_ring(pump, opt, message);
    if (r == AIO_OK)
        r = pump_start(pump, message);
    if (r < 0)
        pump_free(pump);
    else
        *out = &pump->pub;
    return r;
}
