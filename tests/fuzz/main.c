/* libFuzzer's two entry points, around a Python that has the engine loaded.
 *
 * Environment: AIOMOS_FUZZ_PACKAGE is the folder that holds the built `aiomos/_engine`. The
 * package above it is not imported: the engine's core needs none of it, nor what that needs. */
#include <Python.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

unsigned long long aio_fuzz_work; /* loads, and cache lines moved (counted.h) */

/* What the compiler calls before each load (-fsanitize-coverage=trace-loads). */
#define COUNT_LOADS(size) \
    void __sanitizer_cov_load##size(const void *at) \
    { \
        (void)at; \
        aio_fuzz_work++; \
    }
COUNT_LOADS(1)
COUNT_LOADS(2)
COUNT_LOADS(4)
COUNT_LOADS(8)
COUNT_LOADS(16)

typedef int (*entry_fn)(const uint8_t *script, size_t size);
static entry_fn play;

static const char begin[] =
    "import importlib, os, sys, types\n"
    "sys.unraisablehook = lambda what: (sys.__unraisablehook__(what), os.abort())\n"
    "package = types.ModuleType('aiomos')\n"
    "package.__path__ = [os.environ['AIOMOS_FUZZ_PACKAGE'] + '/aiomos']\n"
    "sys.modules['aiomos'] = package\n"
    "ENTRY = importlib.import_module('aiomos._engine._fuzz').ENTRY\n";

/* Without site-packages: in a virtual environment an editable install would bring its own build. */
static int start_python(void)
{
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.install_signal_handlers = 0;
    PyStatus status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return !PyStatus_Exception(status);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (!start_python() || PyRun_SimpleString(begin) != 0)
        exit(2);
    PyObject *main_module = PyImport_AddModule("__main__");
    PyObject *entry = PyObject_GetAttrString(main_module, "ENTRY");
    play = (entry_fn)PyLong_AsVoidPtr(entry);
    Py_XDECREF(entry);
    if (play == NULL)
        exit(2);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return play(data, size);
}
