"""Writes down every frame that a FLARE process sends; put this folder's copy on the process's ``PYTHONPATH``.

Python imports it before anything else. As soon as FLARE's framing layer is imported, its sending method is wrapped; a
frame is recorded as it is about to enter TLS. Records are one file a process, in ``captured`` beside this file.

Where a ``facts.json`` lies beside this file, the process takes the names in it for those of its machine and its user.
"""

import base64
import getpass
import importlib.abc
import importlib.machinery
import json
import os
import platform
import pwd
import socket
import sys
import threading
from pathlib import Path

_TARGET = "nvflare.fuel.f3.sfm.sfm_conn"
_FOLDER = Path(__file__).resolve().parent / "captured"
_lock = threading.Lock()


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    return value if isinstance(value, str | int | float | bool) or value is None else repr(value)


def _wrap(module):
    inner = module.SfmConnection.send_frame

    def send_frame(self, prefix, headers, payload):
        peer = getattr(getattr(self, "sfm_endpoint", None), "endpoint", None)
        record = {
            "me": self.local_endpoint.name,
            "peer": getattr(peer, "name", ""),
            "type": prefix.type,
            "headers": _plain(headers or {}),
            "payload": base64.b64encode(bytes(payload or b"")).decode(),
        }
        with _lock, open(_FOLDER / f"{os.getpid()}.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        return inner(self, prefix, headers, payload)

    module.SfmConnection.send_frame = send_frame


class _Loader(importlib.abc.Loader):
    def __init__(self, inner):
        self._inner = inner

    def create_module(self, spec):
        return self._inner.create_module(spec)

    def exec_module(self, module):
        self._inner.exec_module(module)
        _wrap(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _TARGET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def _pretend(host, user):
    uname, entry = os.uname, pwd.getpwuid
    socket.gethostname = socket.getfqdn = platform.node = lambda *_: host
    getpass.getuser = os.getlogin = lambda: user
    os.uname = lambda: os.uname_result((uname()[0], host, *uname()[2:]))
    pwd.getpwuid = lambda uid: pwd.struct_passwd((user, "x", uid, entry(uid)[3], user, f"/home/{user}", "/bin/sh"))


_facts = Path(__file__).with_name("facts.json")
if _facts.exists():
    _pretend(**json.loads(_facts.read_text(encoding="utf-8")))
    _told = _FOLDER.with_name("pretended")
    _told.mkdir(mode=0o700, exist_ok=True)
    (_told / f"{os.getpid()}.json").write_text(json.dumps([socket.gethostname(), getpass.getuser()]))
_FOLDER.mkdir(mode=0o700, exist_ok=True)
sys.meta_path.insert(0, _Finder())
