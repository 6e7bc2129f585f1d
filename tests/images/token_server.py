#!/usr/bin/env python3
"""Bearer tokens for registry.sh start-auth: token_server.py PORT KEY CERT
(PORT 0: a free one; the port is printed).

Anonymous callers get pull; user test with password secret gets push too.
Tokens are RS256, signed with the openssl command (no packages needed), and
last five minutes (TOKEN_SECONDS). /stats counts the requests."""
import base64
import http.server
import json
import os
import subprocess
import sys
import time
import urllib.parse

PORT, KEY, CERT = int(sys.argv[1]), sys.argv[2], sys.argv[3]
LIFE = int(os.environ.get("TOKEN_SECONDS", "300"))
COUNT = {"anonymous": 0, "user": 0, "refused": 0}


def b64(d):
    return base64.urlsafe_b64encode(d).rstrip(b"=").decode()


DER = base64.b64encode(subprocess.run(["openssl", "x509", "-in", CERT, "-outform", "DER"], check=True, stdout=subprocess.PIPE).stdout).decode()


def token(sub, access):
    now = int(time.time())
    head = {"typ": "JWT", "alg": "RS256", "x5c": [DER]}
    body = {"iss": "test-issuer", "aud": "test-registry", "sub": sub, "exp": now + LIFE, "nbf": now - 5, "iat": now,
            "jti": b64(os.urandom(9)), "access": access}
    msg = b64(json.dumps(head).encode()) + "." + b64(json.dumps(body).encode())
    sig = subprocess.run(["openssl", "dgst", "-sha256", "-sign", KEY], input=msg.encode(), check=True, stdout=subprocess.PIPE).stdout
    return msg + "." + b64(sig)


class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def out(self, code, obj):
        d = json.dumps(obj).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(d)))
        self.end_headers()
        self.wfile.write(d)

    def do_GET(self):
        u = urllib.parse.urlsplit(self.path)
        if u.path == "/stats":
            return self.out(200, COUNT)
        q = urllib.parse.parse_qs(u.query)
        user, allowed = "", {"pull"}
        a = self.headers.get("Authorization", "")
        if a:
            if a != "Basic " + base64.b64encode(b"test:secret").decode():
                COUNT["refused"] += 1
                return self.out(401, {"errors": [{"code": "UNAUTHORIZED", "message": "bad login"}]})
            user, allowed = "test", {"pull", "push", "delete"}
        COUNT["user" if user else "anonymous"] += 1
        access = []
        for s in " ".join(q.get("scope", [])).split():
            kind, rest = s.split(":", 1)
            name, acts = rest.rsplit(":", 1)
            access.append({"type": kind, "name": name, "actions": sorted(allowed & set(acts.split(",")))})
        t = token(user, access)
        self.out(200, {"token": t, "access_token": t, "expires_in": LIFE})


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), H)
print(server.server_port, flush=True)
server.serve_forever()
