"""libpcap, as far as filters need it. No other file of the engine names its symbols."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport FILE


cdef extern from "pcap/pcap.h" nogil:
    ctypedef struct pcap_t:
        pass

    cdef struct bpf_insn:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k

    cdef struct bpf_program:
        unsigned int bf_len
        bpf_insn *bf_insns

    const int PCAP_ERRBUF_SIZE
    const uint32_t PCAP_NETMASK_UNKNOWN

    pcap_t *pcap_open_dead(int dlt, int snap_len)
    pcap_t *pcap_fopen_offline(FILE *stream, char *message)
    void pcap_close(pcap_t *handle)
    char *pcap_geterr(pcap_t *handle)
    int pcap_compile(pcap_t *handle, bpf_program *out, const char *text, int optimize,
                     uint32_t netmask)
    void pcap_freecode(bpf_program *program)

    # Accepts everything when insns is NULL. A load outside buf_len ends with "no match".
    unsigned int bpf_filter(const bpf_insn *insns, const uint8_t *data,
                            unsigned int wire_len, unsigned int buf_len)

    # DLT numbers that differ from the LINKTYPE numbers of capture files. They also differ
    # between operating systems, so they are taken from the header.
    const int DLT_ATM_RFC1483
    const int DLT_RAW
    const int DLT_SLIP_BSDOS
    const int DLT_PPP_BSDOS
    const int DLT_ATM_CLIP

    # Instruction fields: code = class | size | mode (loads), class | operation | source.
    const int BPF_LD
    const int BPF_LDX
    const int BPF_ST
    const int BPF_STX
    const int BPF_ALU
    const int BPF_JMP
    const int BPF_RET
    const int BPF_MISC
    const int BPF_H
    const int BPF_B
    const int BPF_IMM
    const int BPF_ABS
    const int BPF_IND
    const int BPF_MEM
    const int BPF_LEN
    const int BPF_MSH
    const int BPF_ADD
    const int BPF_SUB
    const int BPF_MUL
    const int BPF_DIV
    const int BPF_OR
    const int BPF_AND
    const int BPF_LSH
    const int BPF_RSH
    const int BPF_NEG
    const int BPF_MOD
    const int BPF_XOR
    const int BPF_JA
    const int BPF_JEQ
    const int BPF_JGT
    const int BPF_JGE
    const int BPF_JSET
    const int BPF_X
    const int BPF_A
    const int BPF_TXA


cdef extern from *:
    """
    /* linux/filter.h clashes with pcap/bpf.h. Loads above AIO_AD_BASE ask the kernel for
     * what is not in the packet; libpcap compiles "inbound" and "outbound" to the first. */
    #define AIO_AD_BASE        0xfffff000u
    #define AIO_AD_PACKET_TYPE 0xfffff004u
    #define AIO_PACKET_HOST     0u
    #define AIO_PACKET_OUTGOING 4u
    """
    const uint32_t AIO_AD_BASE
    const uint32_t AIO_AD_PACKET_TYPE
    const uint32_t AIO_PACKET_HOST
    const uint32_t AIO_PACKET_OUTGOING
