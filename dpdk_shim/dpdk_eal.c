/* dpdk_eal.c -- DPDK's environment: set up once a process, from a typed configuration. */
#include "dpdk_private.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_version.h>
#include <rte_service_component.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_MAX 48
#define CPUS_TEXT 1024

static struct {
    bool started, stopped;
} eal;

/* EAL keeps pointers into argv, so what is built here is freed only on failure. */
struct args {
    int argc;
    char *argv[ARGS_MAX + 1];
    bool failed;
};

bool aio_dpdk_started(void)
{
    return eal.started && !eal.stopped;
}

bool aio_dpdk_is_secondary(void)
{
    return rte_eal_process_type() == RTE_PROC_SECONDARY;
}

const char *aio_dpdk_version(void)
{
    return rte_version();
}

const char *aio_dpdk_built_version(void)
{
    return RTE_VER_PREFIX
        " " RTE_STR(RTE_VER_YEAR) "." RTE_STR(RTE_VER_MONTH) "." RTE_STR(RTE_VER_MINOR);
}

const char *aio_dpdk_folder(void)
{
    return rte_eal_get_runtime_dir();
}

/* ---- arguments -------------------------------------------------------------------------- */

static void add(struct args *args, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(struct args *args, const char *format, ...)
{
    va_list list;

    if (args->argc == ARGS_MAX) {
        args->failed = true;
        return;
    }
    va_start(list, format);
    if (vasprintf(&args->argv[args->argc], format, list) < 0)
        args->failed = true;
    else
        args->argc++;
    va_end(list);
}

/* The CPUs that this thread may use, as EAL writes lists: pinning is not EAL's business,
 * and it insists on doing it. */
static void cpus_text(const cpu_set_t *cpus, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (int cpu = 0; cpu < CPU_SETSIZE && used + 8 < size; cpu++)
        if (CPU_ISSET(cpu, cpus))
            used += (size_t)snprintf(out + used, size - used, used ? ",%d" : "%d", cpu);
}

static void add_memory(struct args *args, const struct aio_dpdk_config *config)
{
    if (config->memory_mib && !config->secondary)
        add(args, "-m%u", config->memory_mib);
    if (!config->huge)
        add(args, "--no-huge");
    if (!config->huge && !config->shared)
        add(args, "--no-shconf");
    if (config->huge && !config->shared) {
        add(args, "--in-memory");
        /* One descriptor for many pages: virtio_user hands them over, and takes only a few. */
        add(args, "--single-file-segments");
    }
    if (config->huge && config->huge_dir[0])
        add(args, "--huge-dir=%s", config->huge_dir);
}

static void add_all(struct args *args, const struct aio_dpdk_config *config,
                    const cpu_set_t *cpus)
{
    char list[CPUS_TEXT];

    cpus_text(cpus, list, sizeof list);
    add(args, "aiomos");
    add(args, "--lcores=%u@(%s)", config->lcore, list);
    add(args, "--file-prefix=%s", config->file_prefix);
    add(args, "--proc-type=%s", config->secondary ? "secondary" : "primary");
    add_memory(args, config);
    if (config->log_level[0])
        add(args, "--log-level=%s", config->log_level);
    if (config->driver_path[0])
        add(args, "-d%s", config->driver_path);
    if (!config->telemetry)
        add(args, "--no-telemetry");
    for (unsigned i = 0; i < config->n_devices; i++)
        add(args, "-a%s", config->devices[i]);
    if (config->n_devices == 0)
        add(args, "--no-pci");
    args->argv[args->argc] = NULL;
}

static void args_free(struct args *args)
{
    for (int i = 0; i < args->argc; i++)
        free(args->argv[i]);
}

/* ---- starting ------------------------------------------------------------------------------ */

/* A library older than the headers may lack what was compiled in; one of another ABI was
 * refused by the dynamic linker already. */
static int check_version(char *message)
{
    unsigned here = rte_version_year() * 100 + rte_version_month();

    if (here >= RTE_VER_YEAR * 100 + RTE_VER_MONTH)
        return AIO_OK;
    return aio_dpdk_fail(message, AIO_ENOTSUP,
                         "aiomos was built with %s, but %s is installed: rebuild it here "
                         "(pip install --no-binary aiomos aiomos)",
                         aio_dpdk_built_version(), rte_version());
}

static const char *remedy(const struct aio_dpdk_config *config, int error)
{
    if (config->secondary)
        return "is its primary running, with shared=True and the same file_prefix?";
    switch (error) {
    case EACCES:
    case EPERM:
        return "no permission: run as root, or give the user access to huge pages and VFIO";
    case ENOMEM:
        return config->huge ? "not enough free huge pages: echo 128 > "
                              "/proc/sys/vm/nr_hugepages, or huge=\"no\""
                            : "not enough memory: lower memory_mib";
    case EBUSY:
    case EAGAIN:
        return "another process uses this file_prefix: choose another";
    case ENODEV:
        return "a device could not be opened: aiomos doctor";
    }
    return config->huge
               ? "no huge pages? echo 128 > /proc/sys/vm/nr_hugepages, or huge=\"no\""
               : "see the reason that DPDK gives";
}

/* Service cores, which nobody here uses, take some 50 KiB of the shared heap for each process,
 * and whoever is killed does not give them back: a secondary has none. */
static int start(struct args *args, const struct aio_dpdk_config *config, char *message)
{
    int saved, result, error;

    if (!aio_log_open())
        return aio_dpdk_fail(message, AIO_ENOMEM, "no memory for DPDK's log");
    aio_log_mark();
    saved = aio_log_stderr_begin();
    result = rte_eal_init(args->argc, args->argv);
    error = rte_errno;
    aio_log_stderr_end(saved);
    if (result < 0)
        return aio_dpdk_fail_log(message, AIO_EIO, "DPDK did not start: %s",
                                 remedy(config, error));
    if (!aio_marks_register())
        return aio_dpdk_fail_log(message, AIO_ENOMEM,
                                 "DPDK has no field left in its mbufs");
    if (config->secondary)
        rte_service_finalize();
    return AIO_OK;
}

int aio_dpdk_start(const struct aio_dpdk_config *config, char *message)
{
    struct args args = {0};
    cpu_set_t cpus;
    int result;

    message[0] = '\0';
    if (eal.started)
        return aio_dpdk_fail(
            message, AIO_EINVAL,
            "DPDK starts once a process: use the configuration that it was "
            "started with, or a new process");
    if ((result = check_version(message)) < 0)
        return result;
    CPU_ZERO(&cpus);
    pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus);
    add_all(&args, config, &cpus);
    if (args.failed) {
        args_free(&args);
        return aio_dpdk_fail(message, AIO_EINVAL, "too many devices: at most %d",
                             ARGS_MAX / 2);
    }
    result = start(&args, config, message);
    pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
    eal.started = result == AIO_OK;
    return result;
}

int aio_dpdk_stop(char *message)
{
    message[0] = '\0';
    if (!aio_dpdk_started())
        return AIO_OK;
    if (aio_dpdk_ports)
        return aio_dpdk_fail(message, AIO_EINVAL, "port %s is open: close it before",
                             aio_dpdk_ports->state->info.name);
    eal.stopped = true;
    aio_log_mark();
    if (rte_eal_cleanup() < 0)
        return aio_dpdk_fail_log(message, AIO_EIO, "DPDK did not shut down cleanly");
    return AIO_OK;
}
