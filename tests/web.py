"""A web server of one folder, with Range and with failures on demand."""

import contextlib
import functools
import http.server
import pathlib
import threading
from collections.abc import Iterator


class Handler(http.server.SimpleHTTPRequestHandler):
  """Serves files; `server.failures` holds what shall go wrong, one a GET.

  An int: the connection ends after so many bytes. 'no range': the whole file,
  whatever was asked. A status such as '503': that.
  """

  def log_message(self, *_):
    pass

  def do_GET(self):
    asked = self.headers.get('Range')
    self.server.requests.append((self.path, asked))
    failure = self.server.failures.pop(0) if self.server.failures else None
    path = pathlib.Path(self.translate_path(self.path))
    if isinstance(failure, str) and failure.isdigit():
      return self.send_error(int(failure))
    if not path.is_file():
      return self.send_error(404)
    data = path.read_bytes()
    start = 0
    if asked and failure != 'no range':
      start = int(asked.removeprefix('bytes=').removesuffix('-'))
      if start >= len(data):
        self.send_response(416)
        self.send_header('Content-Range', f'bytes */{len(data)}')
        self.send_header('Content-Length', '0')
        return self.end_headers()
      self.send_response(206)
      self.send_header(
        'Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}'
      )
    else:
      self.send_response(200)
    self.send_header('Content-Length', str(len(data) - start))
    self.end_headers()
    body = data[start:]
    if isinstance(failure, int):
      body = body[:failure]
      self.close_connection = True
    self.wfile.write(body)


@contextlib.contextmanager
def serve(
  folder: pathlib.Path, handler=Handler
) -> Iterator[http.server.ThreadingHTTPServer]:
  """Serves until the end; `.url`, `.requests` and `.failures` are its own."""
  server = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), functools.partial(handler, directory=str(folder))
  )
  server.requests, server.failures = [], []
  server.url = f'http://127.0.0.1:{server.server_address[1]}'
  thread = threading.Thread(
    target=functools.partial(server.serve_forever, poll_interval=0.01)
  )
  thread.start()
  try:
    yield server
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
