# SPDX-License-Identifier: Apache-2.0
"""A model hub on this machine for the tests of carat pull: the API and the files of the real one, and
a second host where large files lie, with every way to misbehave."""
import hashlib
import http.server
import json
import re
import ssl
import threading
import time
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class File:
    def __init__(self, data, is_large=True):
        self.data = data
        self.is_large = is_large
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def row(self, path):
        if self.is_large:
            return {"rfilename": path, "size": len(self.data), "blobId": "1" * 40,
                    "lfs": {"sha256": self.sha256, "size": len(self.data), "pointerSize": 130}}
        return {"rfilename": path, "size": len(self.data), "blobId": self.git}


class Quirks:
    """What goes wrong. Counts are used up; True never is."""

    def __init__(self):
        self.drop_after = None      # bytes of a body after which the connection is cut
        self.drops = True           # how many bodies
        self.lie_total = 0          # added to the size in Content-Range and Content-Length
        self.ignore_range = False
        self.shift_range = False    # sends other bytes than were asked for, and says so
        self.wrong_bytes = 0        # bodies with a byte changed
        self.busy = 0               # answers with status, and Retry-After
        self.busy_status = 503
        self.retry_after = None
        self.rate = None            # bytes per second and connection
        self.refuse = None          # (status, code) of every file
        self.refuse_api = None      # (status, code) of the API
        self.hops = 1               # redirects until the file's host is reached
        self.token = None           # that the hub wants for files
        self.expire = 0             # answers 403 of the files' host
        self.api_text = None        # instead of the API's answer
        self.stall = 0              # bodies that stop in the middle without a word
        self.endless = False        # bodies that go on behind their end


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # clients go away: that is what is tested


class Hub:
    """host: the API and the addresses of files; store: where they lie, another host for the client."""

    def __init__(self, certificate=None, is_store_plain=False):
        """certificate: files with it and its key; all is encrypted then, or all but the store."""
        self.certificate = certificate
        self.is_store_plain = is_store_plain or not certificate
        self.repos = {}    # "owner/repo": {path: File}
        self.listed = {}   # "owner/repo": rows to list instead
        self.quirks = Quirks()
        self.requests = []  # (host, method, path, headers)
        self.sent = 0       # bytes of files
        self.lock = threading.Lock()
        self.host = self.start("host")
        self.store = self.start("store")

    def start(self, name):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                with hub.lock:
                    hub.requests.append((name, "GET", self.path, dict(self.headers)))
                try:
                    hub.answer(self, name)
                except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                    self.close_connection = True

        server = Server(("127.0.0.1", 0), Handler)
        if not (self.is_store_plain if name == "store" else self.certificate is None):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            # Hands are shaken by the thread of the connection: some will refuse.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        return server

    def close(self):
        for server in (self.host, self.store):
            server.shutdown()
            server.server_close()

    @property
    def url(self):
        return f"http{'s' if self.certificate else ''}://127.0.0.1:{self.host.server_address[1]}"

    @property
    def store_url(self):
        return f"http{'' if self.is_store_plain else 's'}://localhost:{self.store.server_address[1]}"  # by another name, too

    def takes(self, quirk):
        """Whether this time it happens."""
        with self.lock:
            left = getattr(self.quirks, quirk)
            if left is True:
                return True
            if left:
                setattr(self.quirks, quirk, left - 1)
            return bool(left)

    @staticmethod
    def reply(handler, status, body=b"", headers=()):
        handler.send_response(status)
        for key, value in headers:
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def refuse(self, handler, refusal):
        status, code = refusal
        self.reply(handler, status, b"no", [("X-Error-Code", code)] if code else [])

    def answer(self, handler, name):
        path = urllib.parse.unquote(urllib.parse.urlsplit(handler.path).path)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if name == "host" and api:
            self.answer_api(handler, api.group(1), api.group(2))
        elif file and file.group(3) in self.repos.get(file.group(1), {}):
            self.answer_file(handler, name, file.group(1), file.group(3))
        else:
            self.refuse(handler, (404, "RepoNotFound" if api else "EntryNotFound"))

    def answer_api(self, handler, repo, revision):
        if self.takes("busy"):
            self.reply(handler, self.quirks.busy_status, b"busy", self.later())
        elif self.quirks.refuse_api:
            self.refuse(handler, self.quirks.refuse_api)
        elif repo not in self.repos:
            self.refuse(handler, (404, "RepoNotFound"))
        elif revision not in ("main", COMMIT):
            self.refuse(handler, (404, "RevisionNotFound"))
        else:
            rows = self.listed.get(repo) or [f.row(p) for p, f in self.repos[repo].items()]
            text = self.quirks.api_text
            body = text if text is not None else json.dumps({"id": repo, "sha": COMMIT, "siblings": rows}).encode()
            self.reply(handler, 200, body, [("Content-Type", "application/json")])

    def later(self):
        return [("Retry-After", str(self.quirks.retry_after))] if self.quirks.retry_after is not None else []

    def answer_file(self, handler, name, repo, path):
        q = self.quirks
        if name == "host":
            if q.refuse:
                return self.refuse(handler, q.refuse)
            if q.token and handler.headers.get("Authorization") != f"Bearer {q.token}":
                return self.refuse(handler, (401, "GatedRepo"))
            if self.takes("busy"):
                return self.reply(handler, q.busy_status, b"busy", self.later())
            hop = int(urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query).get("hop", ["0"])[0]) + 1
            if self.repos[repo][path].is_large and q.hops:
                where = self.store_url if hop >= q.hops else self.url
                target = f"{where}{urllib.parse.quote(handler.path.split('?')[0])}?hop={hop}&Signature=secret"
                return self.reply(handler, 302, b"elsewhere", [("Location", target)])
        elif self.takes("expire"):
            return self.reply(handler, 403, b"expired")
        self.send_file(handler, self.repos[repo][path].data)

    def send_file(self, handler, data):
        q = self.quirks
        begin, end, status = 0, len(data), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        if asked and not q.ignore_range:
            begin, status = int(asked.group(1)), 206
            end = min(int(asked.group(2)) + 1 if asked.group(2) else len(data), len(data))
            if begin >= len(data):
                return self.reply(handler, 416)
            if q.shift_range:
                begin, end = begin + 1, min(end + 1, len(data))
        body = bytearray(data[begin:end])
        if body and self.takes("wrong_bytes"):
            body[len(body) // 2] ^= 0x40
        handler.send_response(status)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data) + q.lie_total}")
            handler.send_header("Content-Length", str(len(body)))
        elif not q.endless:
            handler.send_header("Content-Length", str(len(body) + q.lie_total))
        handler.end_headers()
        if q.endless:
            body += bytes(100000)
            handler.close_connection = True
        self.send_body(handler, bytes(body))

    def send_body(self, handler, body):
        q = self.quirks
        limit = len(body)
        is_cut = is_stalled = False
        if q.drop_after is not None and limit > q.drop_after and self.takes("drops"):
            limit, is_cut = q.drop_after, True
        elif limit and self.takes("stall"):
            limit, is_stalled = limit // 2, True
        piece = 65536 if not q.rate else max(1, min(65536, q.rate // 20))
        for at in range(0, limit, piece):
            part = body[at:min(at + piece, limit)]
            handler.wfile.write(part)
            with self.lock:
                self.sent += len(part)
            if q.rate:
                time.sleep(len(part) / q.rate)
        if is_stalled:
            time.sleep(4)
        if is_cut or is_stalled:
            handler.close_connection = True
