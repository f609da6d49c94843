"""Shows the answer to a GET as ``curl -i`` would, for a machine without curl."""

import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
connection = HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=10)
try:
    connection.request("GET", url.path or "/")
    answer = connection.getresponse()
    print(
        f"HTTP/1.1 {answer.status} {answer.reason}",
        *(f"{name}: {value}" for name, value in answer.getheaders()),
        sep="\n",
    )
    print(f"\n{answer.read().decode(errors='replace')}")
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
