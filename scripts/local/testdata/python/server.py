"""A payload for tests: it keeps notes, and says what it can read and reach."""

import ctypes
import hashlib
import http.server
import json
import os
import socket
import sqlite3
import sys
import threading
import urllib.parse


def reach(way, host, port):
    kind = socket.SOCK_DGRAM if way == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as s:
        s.settimeout(3)
        if way == "udp":
            s.sendto(b"let me in", (host, port))
            return "sent"
        s.connect((host, port))
        return s.recv(64).decode()


def look_up(name):
    return sorted({a[4][0] for a in socket.getaddrinfo(name, 443)})


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def note(text):
    with sqlite3.connect(os.environ["SHED_DATA"] + "/notes.db") as db:
        db.execute("create table if not exists notes (text)")
        if text:
            db.execute("insert into notes values (?)", (text,))
        return [row[0] for row in db.execute("select text from notes")]


def threads():
    stop, started = threading.Event(), 0
    try:
        while started < 1000:
            threading.Thread(target=stop.wait, daemon=True).start()
            started += 1
    except RuntimeError:
        pass
    stop.set()
    return started


def outcome(f, *args):
    try:
        return f(*args)
    except OSError as e:
        return f"{type(e).__name__} {e.errno}: {e.strerror}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        q = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/healthz":
            said = "well"
        elif url.path == "/reach":
            said = [outcome(reach, *one) for one in json.loads(q["tries"])]
        elif url.path == "/lookup":
            said = outcome(look_up, q["name"])
        elif url.path == "/digest":
            said = outcome(digest, q["path"])
        elif url.path == "/note":
            said = note(q.get("text"))
        elif url.path == "/threads":
            said = threads()
        elif url.path == "/starve":
            said = len(b"x" * (int(q["megabytes"]) << 20))
        elif url.path == "/about":
            said = {
                "arguments": sys.argv[1:], "version": sys.version.split()[0], "colour": os.environ.get("COLOUR"),
                "uid": os.getuid(), "nice": os.nice(0), "root": sorted(os.listdir("/")), "libc": ctypes.CDLL(None).getpid(),
                "write": outcome(open, "/srv/x", "w"), "memory": open("/proc/self/limits").read().count("Max open files            200 "),
            }
        else:
            self.send_error(404)
            return
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


port = int(os.environ["SHED_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
