/* libnids over a capture file: connections and bytes delivered, as one line of JSON.
 *
 *   nids_count [--callback collect|track|none] [--no-checksum] [--streams N] CAPTURE
 *
 * collect  a C callback on every connection takes the bytes of both directions (the default)
 * track    a callback keeps every connection followed but asks for no stream data
 * none     no callback is registered; libnids then forgets a connection once it is established
 *
 * --streams sizes the hash table; libnids follows at most three quarters as many connections.
 */
#include <getopt.h>
#include <nids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long connections;
static unsigned long bytes;

static void collect(struct tcp_stream *flow, void **state)
{
    (void)state;
    if (flow->nids_state == NIDS_JUST_EST) {
        flow->client.collect++;
        flow->server.collect++;
        connections++;
    } else if (flow->nids_state == NIDS_DATA) {
        bytes += (unsigned long)flow->client.count_new + (unsigned long)flow->server.count_new;
    }
}

/* Urgent data alone: the cheapest wish that makes libnids go on following the connection. */
static void track(struct tcp_stream *flow, void **state)
{
    (void)state;
    if (flow->nids_state == NIDS_JUST_EST) {
        flow->client.collect_urg++;
        flow->server.collect_urg++;
        connections++;
    }
}

static void trust_checksums(void)
{
    static struct nids_chksum_ctl everybody = {0, 0, NIDS_DONT_CHKSUM, 0};
    nids_register_chksum_ctl(&everybody, 1);
}

static void register_callback(const char *kind)
{
    if (strcmp(kind, "collect") == 0)
        nids_register_tcp(collect);
    else if (strcmp(kind, "track") == 0)
        nids_register_tcp(track);
    else if (strcmp(kind, "none") != 0)
        exit(2);
}

/* Reads the options into libnids' parameters; returns the kind of callback. */
static const char *configure(int argc, char **argv)
{
    static const struct option options[] = {
        {"callback", required_argument, NULL, 'c'},
        {"no-checksum", no_argument, NULL, 'n'},
        {"streams", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    const char *kind = "collect";
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            kind = optarg;
        else if (option == 'n')
            trust_checksums();
        else if (option == 's')
            nids_params.n_tcp_streams = atoi(optarg);
        else
            exit(2);
    }
    if (optind >= argc)
        exit(2);
    nids_params.filename = argv[optind];
    nids_params.scan_num_hosts = 0;
    return kind;
}

int main(int argc, char **argv)
{
    const char *kind = configure(argc, argv);

    if (!nids_init()) {
        fprintf(stderr, "nids_count: %s\n", nids_errbuf);
        return 1;
    }
    register_callback(kind);
    nids_run();
    printf("{\"connections\": %lu, \"bytes\": %lu}\n", connections, bytes);
    return 0;
}
