"""Object stores on this machine: an S3 server of moto's, and an emulator of Google's.

Their clients find them by the environment, so a process has one of each, for all its tests.
"""

import contextlib
import itertools
import logging
import os
import socketserver
import threading
from unittest import mock

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "of-tests",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_numbers = itertools.count(1)


@contextlib.contextmanager
def s3():
    """Within it, gives a function that makes a new bucket and returns its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it writes a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ.update(_ENVIRONMENT, AWS_ENDPOINT_URL=f"http://{host}:{port}")
    import boto3

    def bucket():
        name = f"bucket{next(_numbers)}"
        boto3.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}"

    yield bucket
    server.stop()


@contextlib.contextmanager
def gs():
    """Within it, gives the address of a bucket. The emulator has no preconditions of writes."""
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    # Its clients ask for many files at once, and wait long where one is turned away.
    with mock.patch.object(socketserver.TCPServer, "request_queue_size", 128):
        server.start()
    address = f"http://127.0.0.1:{server._api._httpd.server_address[1]}"
    os.environ.update(
        STORAGE_EMULATOR_HOST=address,
        TENSORSTORE_GCS_HTTP_URL=address,
        # gcsfs would ask Google for credentials to find out what kind of bucket it is.
        GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT="false",
        # Both clients would look for a machine of Google's that gives them some.
        NO_GCE_CHECK="true",
        GOOGLE_AUTH_TOKEN_FOR_TESTING="of-tests",
    )
    yield "gs://bucket"
    threading.Thread(target=server.stop, daemon=True).start()
