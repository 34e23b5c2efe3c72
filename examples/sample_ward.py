"""A throw-away server with the sample ward in it, for the programs of this folder. Standard library only.

The binary is the one that WARDKEEP names, or target/release/wardkeep.
"""

import json
import os
import pathlib
import secrets
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

from bundle import bundle

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARD = ROOT / "examples" / "ward"


class Refused(Exception):
    """The server said no; `problem` is its application/problem+json."""

    def __init__(self, status, problem):
        super().__init__(f"{status}: {problem.get('detail') or problem}")
        self.status, self.problem = status, problem


class Client:
    """One caller. Whoever holds the key is the caller: nothing in a request can say otherwise."""

    def __init__(self, url, key):
        self.url, self.key = url.rstrip("/"), key

    def call(self, method, path, body=None, kind="application/json", **headers):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if data is not None:
            request.add_header("Content-Type", kind)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, problem_in(error.read())) from None
        return json.loads(text) if text else None

    def key_for(self, caller, **limits):
        """A client for another caller; only an administrator may make its key."""
        return Client(self.url, self.call("POST", "/v1/callers", {**caller, **limits})["api_key"])


class SampleWard:
    """`with SampleWard() as root:` an empty store, served, with the clinical bundle and the ward in it."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="wardkeep-")
        here = pathlib.Path(self.folder.name)
        self.data, self.passphrase = here / "data", here / "passphrase"
        self.passphrase.touch(0o600)
        self.passphrase.write_text(secrets.token_urlsafe(24) + "\n")
        made = json.loads(self.run("init", "--json"))
        self.server = subprocess.Popen(
            self.command("serve", "--listen", "127.0.0.1:0"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            root = Client(self.listening(), made["api_key"])
            load(root)
            return root
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.server.terminate()
        self.server.wait(60)
        self.folder.cleanup()

    def run(self, *verb):
        return subprocess.run(self.command(*verb), check=True, stdout=subprocess.PIPE, text=True).stdout

    def command(self, *verb):
        binary = os.environ.get("WARDKEEP", str(ROOT / "target" / "release" / "wardkeep"))
        return [binary, *verb, "--data", str(self.data), "--passphrase-file", str(self.passphrase)]

    def listening(self):
        """The address, once the server says that it is ready."""
        seen = []
        for line in self.server.stdout:
            seen.append(line)
            if "listening on http" in line:
                threading.Thread(target=self.server.stdout.read, daemon=True).start()
                return line.split("listening on ")[1].split()[0]
        raise RuntimeError("the server ended before it was ready:\n" + "".join(seen))


def load(root):
    """What an administrator does once: rules, people, a collection; and a feed brings the records."""
    version = root.call("GET", "/v1/policies")["version"]
    body = bundle(ROOT / "policies" / "clinical", "the sample ward")
    root.call("PUT", "/v1/policies", body, If_Match=f'"{version}"')
    root.call("PUT", "/v1/entities", (WARD / "entities.json").read_bytes())
    root.call("PUT", "/v1/collections/ward", (WARD / "collection.json").read_bytes())
    feed = root.key_for({"type": "Service", "id": "record-feed"})
    records = (WARD / "records.ndjson").read_bytes()
    answer = feed.call("PUT", "/v1/collections/ward/records", records, kind="application/x-ndjson")
    if answer["rejected"]:
        raise RuntimeError(f"{len(answer['rejected'])} records were rejected: {answer['rejected'][0]}")


def problem_in(text):
    try:
        return json.loads(text)
    except ValueError:
        return {"detail": text.decode("utf-8", "replace")}
