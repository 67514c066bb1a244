/* Lets libFuzzer call try_one of fuzz_native.py, in a Python embedded here. PYTHON is the
   path of the interpreter whose environment has the packages. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

static PyObject *try_one;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
stop_on_error(int failed)
{
    if (!failed)
        return;
    if (PyErr_Occurred())
        PyErr_Print();
    abort(); /* libFuzzer keeps the input */
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0; /* libFuzzer has its own */
    PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, PYTHON);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    PyObject *module = PyImport_ImportModule("fuzz_native");
    stop_on_error(module == NULL);
    try_one = PyObject_GetAttrString(module, "try_one");
    stop_on_error(try_one == NULL);
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *done = PyObject_CallFunction(try_one, "y#", (const char *)data, (Py_ssize_t)size);
    stop_on_error(done == NULL);
    Py_DECREF(done);
    return 0;
}
