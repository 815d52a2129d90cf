"""Which addresses a scorer may ask, and with which key.

A person who may register a model chooses the address, so without a check this process would be their way into the
network it stands in. Private, loopback, link-local and reserved addresses are refused unless whoever runs the workers
names the host; and the address that was checked is the one connected to, so that a name cannot change in between.
"""

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from workers.errors import JobError

PRIVATE_HOSTS = "STEELYARD_ENDPOINT_PRIVATE_HOSTS"
"""Hosts, or host:port, with commas, that may be asked although their address is private. * for all of them."""
KEY_PREFIX = "STEELYARD_ENDPOINT_KEY_"
"""Only variables of this start are ever sent as a key, so that a config cannot ask for the others."""
HOSTS_SUFFIX = "_HOSTS"
"""STEELYARD_ENDPOINT_KEY_X_HOSTS: the hosts that the key STEELYARD_ENDPOINT_KEY_X may be sent to."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to (by number), and the name that the server is called by."""

    url: str
    host_header: str
    hostname: str


def resolve(url: str, environment: Mapping[str, str] = os.environ) -> Target:
    """The address of `url`, looked up once. JobError for one that may not be asked."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise JobError(f"The host {host} is not known here: {error}.", "Check the url of the reward model.") from error
    numbers = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not is_named(environment.get(PRIVATE_HOSTS, ""), host, port):
        refused = [number for number in numbers if is_private(number)]
        if refused:
            raise JobError(
                f"{host} has a private address, which reward models may not ask.",
                f"Whoever runs the workers can allow it: {PRIVATE_HOSTS}={host}:{port} in their environment.",
            )
    number = numbers[0]
    literal = f"[{number}]" if ":" in number else number
    return Target(urlunsplit((parts.scheme, f"{literal}:{port}", parts.path, "", "")), parts.netloc, host)


def is_private(number: str) -> bool:
    """Is this anything but a public unicast address? An IPv4 address inside an IPv6 one counts as itself."""
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        address = inner or address
        if address in ipaddress.ip_network("64:ff9b::/96"):
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return not address.is_global or address.is_multicast


def is_named(hosts: str, host: str, port: int) -> bool:
    """Does a list of hosts with commas name this one?"""
    named = {entry.strip().lower() for entry in hosts.split(",") if entry.strip()}
    return bool(named & {"*", host.lower(), f"{host.lower()}:{port}"})


def api_key(variable: str, url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The key in an environment variable, or "" where none is asked for. Never stored, logged or shown."""
    if not variable:
        return ""
    if not variable.startswith(KEY_PREFIX):
        raise JobError(f"{variable} is not a variable for keys.", f"Its name must start with {KEY_PREFIX}.")
    key = environment.get(variable, "").strip()
    if not key:
        raise JobError(
            f"The environment variable {variable} is not set where the workers run.",
            "Set it there and start the workers again.",
        )
    parts = urlsplit(url)
    hosts = environment.get(variable + HOSTS_SUFFIX, "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if hosts and not is_named(hosts, parts.hostname or "", port):
        raise JobError(
            f"The key {variable} may not be sent to {parts.hostname}.",
            f"Whoever runs the workers names its hosts in {variable}{HOSTS_SUFFIX}.",
        )
    if not key.isascii() or not key.isprintable():
        raise JobError(f"The value of {variable} cannot be sent: it holds a line break or letters beyond ASCII.")
    return key
