"""An S3-compatible server of the test session's own: moto's, as a process on loopback."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from re import search

import boto3  # type: ignore[import-untyped]  # ships no types
import pytest

from underseal_server.store.bucket import Location

REGION = "us-east-1"
SECRET = "s3cret-access-key-of-tests"


class S3Server:
    """Buckets in the memory of a process that can be paused and ended."""

    def __init__(self, log: Path) -> None:
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 60
        while not (found := search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert time.monotonic() < deadline and self._process.poll() is None, log.read_text()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        self.endpoint = found[0]

    def bucket(self, *, versioned: bool = False) -> Location:
        """Make a bucket and return where in it a server may store."""
        name = "b" + secrets.token_hex(8)
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            kept = {"Status": "Enabled"}
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration=kept)
        return Location(f"s3://{name}/some/prefix", self.endpoint, REGION, "tester", SECRET)

    def client(self):  # type: ignore[no-untyped-def]  # boto3 ships no types
        """Look past the server under test."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="tester",
            aws_secret_access_key=SECRET,
        )

    def keys(self, location: Location) -> set[str]:
        """Return the keys of everything in a bucket, under the prefix."""
        bucket, _, prefix = location.url.removeprefix("s3://").partition("/")
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        entries = [entry for page in pages for entry in page.get("Contents", ())]
        return {entry["Key"].removeprefix(prefix + "/") for entry in entries}

    def contents(self, location: Location) -> dict[str, bytes]:
        """Return every version of every object in a bucket, by key and version."""
        client, (bucket, _, _) = self.client(), location.url.removeprefix("s3://").partition("/")
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
        pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        entries = [entry for page in pages for entry in page.get("Versions", ())]
        return {
            f"{entry['Key']}@{entry['VersionId']}": client.get_object(
                Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"]
            )["Body"].read()
            for entry in entries
        }

    def pause(self) -> None:
        """Let requests hang."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3-compatible server."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "log")
    yield server
    server.close()
