#!/usr/bin/python3
"""A forward proxy for plain HTTP and tunnels (CONNECT) on 127.0.0.1. Whatever host is asked for, a port of loopback answers.

    forward-proxy.py PORT TO-PORT [USER:PASSWORD]

Each request is a line on standard output: method and URL. With a login it answers 407 to requests without it, with a page for
people, as proxies do. The Host header and the body pass on unchanged, so that signatures stay valid.
"""
import base64
import http.client
import http.server
import socket
import sys
import threading
import urllib.parse

PORT, TO = int(sys.argv[1]), int(sys.argv[2])
LOGIN = "Basic " + base64.b64encode(sys.argv[3].encode()).decode() if len(sys.argv) > 3 else None


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, headers, content):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        # An answer to HEAD says how long the answer to GET is.
        length = dict((name.lower(), value) for name, value in headers).get("content-length")
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        print(self.command, self.path, flush=True)
        if LOGIN and self.headers.get("Proxy-Authorization") != LOGIN:
            page = b"<html><head><title>Who are you?</title></head></html>"
            self.reply(407, [("Content-Type", "text/html"), ("Via", "1.1 lab-proxy"), ("Proxy-Authenticate", "Basic")], page)
            return
        url = urllib.parse.urlsplit(self.path)
        server = http.client.HTTPConnection("127.0.0.1", TO)
        path = (url.path or "/") + ("?" + url.query if url.query else "")
        server.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if not name.lower().startswith("proxy-"):
                server.putheader(name, value)
        server.endheaders(body)
        got = server.getresponse()
        self.reply(got.status, got.getheaders(), got.read())

    def do_CONNECT(self):
        print(self.command, self.path, flush=True)
        if LOGIN and self.headers.get("Proxy-Authorization") != LOGIN:
            self.reply(407, [("Proxy-Authenticate", "Basic")], b"")
            return
        server = socket.create_connection(("127.0.0.1", TO))
        self.send_response_only(200)
        self.end_headers()

        def copy(source, target):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=copy, args=(server, self.connection))
        back.start()
        copy(self.connection, server)
        back.join()
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Proxy).serve_forever()
