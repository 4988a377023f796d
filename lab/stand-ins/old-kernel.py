#!/usr/bin/env python3
"""Runs a command as on Linux 4.14, the kernel of Amazon Linux 2: newer system calls fail with ENOSYS.

    old-kernel.py COMMAND [ARGUMENT ...]

The filter holds for all processes that the command starts. It is for x86_64, where the last call of 4.14 is 332, statx.
"""
import ctypes
import os
import struct
import sys

LAST = 332
AUDIT_ARCH_X86_64 = 0xC000003E
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, JUMP_IF_GREATER, RETURN = 0x20, 0x15, 0x25, 0x06
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
ENOSYS = 38

# struct seccomp_data begins with the number and the architecture. Each line: code, jump if true, jump if false, operand.
PROGRAM = [
    (LOAD, 0, 0, 4),
    (JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
    (RETURN, 0, 0, KILL),
    (LOAD, 0, 0, 0),
    (JUMP_IF_GREATER, 0, 1, LAST),
    (RETURN, 0, 0, FAIL | ENOSYS),
    (RETURN, 0, 0, ALLOW),
]


def main():
    if len(sys.argv) < 2 or os.uname().machine != "x86_64":
        sys.exit(__doc__)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in PROGRAM))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(PROGRAM), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, *arguments in (PR_SET_NO_NEW_PRIVS, 1, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program)):
        if libc.prctl(option, *map(ctypes.c_ulong, arguments), ctypes.c_ulong(0), ctypes.c_ulong(0)):
            sys.exit(f"the kernel refuses the filter: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
