#!/usr/bin/python3
"""A name server as companies have them, on UDP port 53 of 127.0.0.1: every name has the IPv4 address 127.0.0.1.

    resolver.py refused|servfail|silent|nothing

The argument says what questions for IPv6 addresses get: REFUSED, SERVFAIL, or no answer. "nothing" refuses every question.
"""
import socket
import struct
import sys

KIND = sys.argv[1]
A = 1
CODES = {"refused": 5, "nothing": 5, "servfail": 2}
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    query, peer = server.recvfrom(512)
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12:end + 5]
    wants_v4 = struct.unpack("!H", query[end + 1:end + 3])[0] == A
    if wants_v4 and KIND != "nothing":
        record = struct.pack("!HHHIH4B", 0xC00C, A, 1, 30, 4, 127, 0, 0, 1)
        server.sendto(query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question + record, peer)
    elif KIND in CODES:
        server.sendto(query[:2] + struct.pack("!HHHHH", 0x8180 | CODES[KIND], 1, 0, 0, 0) + question, peer)
