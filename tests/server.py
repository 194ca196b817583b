"""A web server on this machine, which can cut off, lie and refuse."""

import contextlib
import functools
import http.server
import threading

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `cut` bytes at most in each of the first `cuts` answers."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers.get("Range"))
        if self.path != "/file":
            return self.send_error(404)
        ranged = self.headers.get("Range") if server.ranges else None
        start = int(ranged.removeprefix("bytes=").removesuffix("-")) if ranged else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT)
        if len(server.requests) <= server.cuts:
            end = start + server.cut
        self.wfile.write(CONTENT[start:end])
        self.close_connection = True

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serve(ranges=True, cuts=0, cut=300_000):
    """Within it, `server.url` has CONTENT; `server.requests` notes what was asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.ranges, server.cuts, server.cut, server.requests = ranges, cuts, cut, []
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
