"""A simple log gateway, for comparison: http.server, and boto3 for the URLs. It does not check whether a log exists.

    boto3-redirector.py PORT ENDPOINT REGION BUCKET PREFIX-OF-THE-CLUSTER
"""
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from botocore.config import Config

PORT, ENDPOINT, REGION, BUCKET, PREFIX = sys.argv[1:]
LOG = re.compile(r"/logs/(container_(?:e\d+_)?(\d+_\d+)_\d+_\d+)/([^/?]+)")
S3 = boto3.client("s3", region_name=REGION, endpoint_url=ENDPOINT, config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        found = LOG.fullmatch(self.path)
        if not found:
            self.send_error(404)
            return
        container, application, file = found.groups()
        url = S3.generate_presigned_url("get_object", ExpiresIn=300, Params={
            "Bucket": BUCKET,
            "Key": f"{PREFIX}containers/application_{application}/{container}/{file}.gz",
            "ResponseContentEncoding": "gzip",
            "ResponseContentType": "text/plain; charset=utf-8",
        })
        self.send_response(302)
        self.send_header("Location", url)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Length", "0")
        self.end_headers()


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


Server(("127.0.0.1", int(PORT)), Handler).serve_forever()
