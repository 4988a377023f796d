#!/usr/bin/python3
"""Stands in for the instance metadata service (version 2) and for some calls of the EMR API, on loopback.

/etc/lab/standin.json says what it answers. It reads the file at each request:

    "cluster"          what DescribeCluster answers ("LogUri": null is answered as a cluster without one)
    "describe_error"   null, or the EMR API's error, as in {"__type": "AccessDeniedException", "Message": "..."}
    "security_configuration"
                       what DescribeSecurityConfiguration answers for the name in the cluster's "SecurityConfiguration"
    "security_configuration_error"
                       as "describe_error", for that call
    "throttled_until"  null; until this time (UNIX seconds) the EMR API answers every call with a ThrottlingException
    "throttled_calls"  null; so many calls of the EMR API, counted from the start of this program, get the same answer
    "public_hostname"  null, or the node's public name in the metadata service
    "metadata"         members that replace or add to what lies below /latest/meta-data/, as in {"services/partition": "aws-cn"}
    "imds_status"      200, or the HTTP status that all metadata requests get
    "outage"           null; "hang": metadata requests get no answer until this changes; "refuse": nothing listens
    "role"             the instance profile's role; null for an instance without one
    "rotate"           null: the role's credentials never change, and the S3 server always accepts them;
                       {"every": SECONDS, "life": SECONDS}: they change so often, and the S3 server accepts them for their
                       life; with "until": UNIX-SECONDS they do not change after that time, although they expire (as when
                       the real service cannot rotate them)
    "credentials"      members that replace those of the role's credentials, as in {"Token": "", "Expiration": "..."}

RunJobFlow and AddJobFlowSteps succeed, and write their requests to /var/log/lab-emr.log, a line of JSON each.
"""
import base64
import datetime
import hashlib
import hmac
import itertools
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REGION = os.environ["AWS_REGION"]
ACCOUNT = "111122223333"
INSTANCE = "i-0a1b2c3d4e5f60718"
HOST = "ip-172-31-59-96.ec2.internal"
TOKEN = "AQAEALab-token-of-the-instance-metadata-service=="


def read_settings():
    with open("/etc/lab/standin.json", encoding="utf-8") as file:
        return json.load(file)


def stamp(seconds):
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def rotated(expires):
    """The credentials that expire then. The S3 server derives them in the same way."""
    access = f"ASIALABR{expires:012d}"

    def derive(part):
        digest = hmac.digest(os.environ["LAB_SESSION_SECRET_ACCESS_KEY"].encode(), (part + access).encode(), hashlib.sha256)
        return base64.b64encode(digest).decode()
    return access, derive("secret")[:40], os.environ["LAB_SESSION_TOKEN"] + derive("token")


def credentials(settings):
    """Credentials of the instance profile for six hours. The S3 server takes them for its owner's, or those of the user in
    /etc/lab/session-user."""
    issued = time.time()
    expires = issued + 6 * 3600
    pair = [os.environ["LAB_SESSION_" + name] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "TOKEN")]
    if rotate := settings.get("rotate"):
        issued = min(issued, rotate.get("until", issued)) // rotate["every"] * rotate["every"]
        expires = int(issued + rotate["life"])
        pair = rotated(expires)
    answer = {
        "Code": "Success",
        "LastUpdated": stamp(issued),
        "Type": "AWS-HMAC",
        **dict(zip(("AccessKeyId", "SecretAccessKey", "Token"), pair)),
        "Expiration": stamp(expires),
    }
    answer.update(settings.get("credentials") or {})
    return answer


def metadata(path, settings):
    """The text for a metadata path, or None."""
    role = settings.get("role")
    base = "/latest/meta-data/"
    texts = {
        base + "instance-id": INSTANCE,
        base + "local-hostname": HOST,
        base + "hostname": HOST,
        base + "local-ipv4": "172.31.59.96",
        base + "placement/region": REGION,
        base + "placement/availability-zone": REGION + "a",
        base + "services/domain": "amazonaws.com",
        base + "services/partition": "aws",
        "/latest/dynamic/instance-identity/document": json.dumps(
            {"accountId": ACCOUNT, "instanceId": INSTANCE, "region": REGION, "privateIp": "172.31.59.96"}),
    }
    texts.update({base + name: text for name, text in (settings.get("metadata") or {}).items()})
    if settings.get("public_hostname"):
        texts[base + "public-hostname"] = settings["public_hostname"]
    if role:
        texts[base + "iam/info"] = json.dumps(
            {"Code": "Success", "InstanceProfileArn": f"arn:aws:iam::{ACCOUNT}:instance-profile/{role}"})
        texts[base + "iam/security-credentials"] = role
        texts[base + "iam/security-credentials/" + role] = json.dumps(credentials(settings))
    return texts.get(path.rstrip("/"))


def describe_cluster(request, settings):
    """The answer, and the error that replaces it."""
    cluster = dict(settings["cluster"])
    error = settings.get("describe_error")
    if not error and request.get("ClusterId") != cluster["Id"]:
        error = {"__type": "InvalidRequestException", "ErrorCode": "NoSuchCluster", "Message": "Cluster id is not valid."}
    if cluster.get("LogUri") is None:
        cluster.pop("LogUri", None)
    return {"Cluster": cluster}, error


def describe_security_configuration(request, settings):
    name, configuration = request.get("Name"), settings.get("security_configuration")
    error = settings.get("security_configuration_error")
    if not error and (configuration is None or name != settings["cluster"].get("SecurityConfiguration")):
        error = {"__type": "InvalidRequestException", "Message": f"Security configuration with name '{name}' does not exist."}
    # The configuration is a string that contains JSON.
    return {"Name": name, "SecurityConfiguration": json.dumps(configuration), "CreationDateTime": 1.7e9}, error


def noted(call, answer):
    """A call that is logged for tests, and answered with this."""
    def handle(request, _settings):
        with open("/var/log/lab-emr.log", "a", encoding="utf-8") as file:
            file.write(json.dumps({"call": call, "request": request}) + "\n")
        return answer, None
    return handle


CALLS = {
    "ElasticMapReduce.DescribeCluster": describe_cluster,
    "ElasticMapReduce.DescribeSecurityConfiguration": describe_security_configuration,
    "ElasticMapReduce.RunJobFlow": noted("RunJobFlow", {"JobFlowId": "j-3H6EATEWWRWS"}),
    "ElasticMapReduce.AddJobFlowSteps": noted("AddJobFlowSteps", {"StepIds": ["s-2KDSNMHQ3X7TL"]}),
}


calls = itertools.count()


class Handler(BaseHTTPRequestHandler):
    # Headers and body are two packets. Without this the second waits for an acknowledgement of the first.
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def answer(self, status, text, kind="text/plain", headers=()):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def gone(self, settings):
        """During an outage, open connections end without an answer."""
        self.close_connection = self.close_connection or settings.get("outage") == "refuse"
        return settings.get("outage") == "refuse"

    def refused(self, settings):
        while settings.get("outage") == "hang":
            time.sleep(0.05)
            settings = read_settings()
        if self.gone(settings):
            return True
        status = settings.get("imds_status", 200)
        if status != 200:
            self.answer(status, "")
        return status != 200

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refused(read_settings()):
            return
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token":
            self.answer(404, "")
        elif not seconds.isdigit() or not 0 < int(seconds) <= 21600:
            self.answer(400, "")
        else:
            self.answer(200, TOKEN, headers=[("X-aws-ec2-metadata-token-ttl-seconds", seconds)])

    def do_GET(self):
        settings = read_settings()
        if self.refused(settings):
            return
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            self.answer(401, "")
            return
        text = metadata(self.path, settings)
        self.answer(404 if text is None else 200, text or "")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = "application/x-amz-json-1.1"
        settings = read_settings()
        if self.gone(settings):
            return
        target = self.headers.get("X-Amz-Target", "")
        call = CALLS.get(target)
        if not self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 "):
            answer, error = None, {"__type": "MissingAuthenticationTokenException", "message": "Missing Authentication Token"}
        elif not call:
            answer, error = None, {"__type": "UnknownOperationException", "Message": f"no {target} here"}
        elif time.time() < (settings.get("throttled_until") or 0) or next(calls) < (settings.get("throttled_calls") or 0):
            answer, error = None, {"__type": "ThrottlingException", "Message": "Rate exceeded"}
        else:
            answer, error = call(json.loads(body or b"{}"), settings)
        self.answer(400 if error else 200, json.dumps(error or answer), kind)


class Outage(Exception):
    """Whether nothing may listen."""


class Server(ThreadingHTTPServer):
    def service_actions(self):
        if refuses():
            raise Outage


def refuses():
    try:
        return read_settings().get("outage") == "refuse"
    except ValueError:
        return False  # somebody is writing it


while True:
    with Server(("127.0.0.1", int(os.environ["LAB_AWS_PORT"])), Handler) as server:
        try:
            server.serve_forever(poll_interval=0.2)
        except Outage:
            pass
    while refuses():
        time.sleep(0.05)
