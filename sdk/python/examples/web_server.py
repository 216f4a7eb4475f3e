"""Have code in a sandbox serve a web page, and see it from outside.

    python web_server.py

The server inside listens on its own loopback; no port of this machine is opened. Where the k2sandbox server has a
URL, `sandbox.url(port)` is the page's address in a browser.
"""

from __future__ import annotations

import threading

from k2sandbox import K2Error, Sandbox

APP = """
import http.server

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f"<h1>Hello from {self.path}</h1>".encode())

server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Page)
print("ready", flush=True)
server.serve_forever()
"""


def main() -> None:
    with Sandbox() as sandbox:
        sandbox.filesystem.write("app.py", APP)
        ready = threading.Event()
        sandbox.process.start("python app.py", background=True, on_stdout=lambda data: ready.set())
        ready.wait(60)

        page = sandbox.transport.request("GET", sandbox.path("/ports/8000/greeting"))
        print(page.status, page.headers["content-type"], page.content.decode())
        try:
            print("in a browser:", sandbox.url(8000))
        except K2Error as error:  # this user's own server is on a unix socket
            print(error)


if __name__ == "__main__":
    main()
