/* error.c -- results in words, for logs and test output. */
#include "shim.h"

const char *aio_result_name(int result)
{
    static const char *const names[] = {
        "OK", "END", "CUT", "EIO", "ENOTCAPTURE", "ENOMEM", "ENOTSUP", "EINVAL", "ECORRUPT",
    };

    if (result > 0)
        return names[0];
    if (-result >= (int)(sizeof names / sizeof names[0]))
        return "unknown";
    return names[-result];
}
