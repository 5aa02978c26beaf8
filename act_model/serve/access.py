"""Who may connect: only this machine, or whoever holds the token, over TLS."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from act_data.errors import InputError, NotFoundError

MIN_TOKEN = 16
_MAX_TOKEN_FILE = 4096
_UNIX = "unix:"
_MAX_SOCKET_PATH = 107  # bytes that the kernel has for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a server listens, and to whom.

    Attributes:
        host: An address, not a name; "" with `path`.
        port: 0 for any that is free.
        path: Of a socket file instead, for this user on this machine.
        token: None: nobody is asked.
        tls: None: the connection is plain.
    """

    host: str
    port: int
    token: str | None
    tls: ssl.SSLContext | None
    path: Path | None = None

    def url(self, port: int) -> str:
        """Address for clients; `port` is the one that was taken."""
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ws' if self.tls is None else 'wss'}://{host}:{port}"

    def lets_in(self, authorization: str | None) -> bool:
        """Whether the value of that HTTP header carries the token ("Bearer ..." or "Api-Key ...").

        Takes the same time wherever two tokens differ.
        """
        if self.token is None:
            return True
        kind, _, given = (authorization or "").partition(" ")
        known = kind.lower() in ("bearer", "api-key")
        return hmac.compare_digest(given.strip().encode(), self.token.encode()) and known


def access_of(
    bind: str, *, token_file: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> Access:
    """What the options say, checked.

    Args:
        bind: "ADDRESS:PORT" or "[ADDRESS]:PORT"; "localhost" is 127.0.0.1. Or "unix:FILE".

    Raises:
        InputError: It is no address, or one that others reach without token and TLS; a token is
            too short, or others on this machine can read it.
        NotFoundError: A file is not there.
    """
    if bind.startswith(_UNIX):
        if tls_cert is not None or tls_key is not None:
            raise InputError("a socket file has no TLS", hint="Leave --tls-cert and --tls-key out.")
        return Access(
            host="",
            port=0,
            token=None if token_file is None else _token(token_file),
            tls=None,
            path=_socket_file(Path(bind.removeprefix(_UNIX)).absolute()),
        )
    host, port = _address(bind)
    if (tls_cert is None) != (tls_key is None):
        raise InputError("TLS needs both files", hint="Give --tls-cert and --tls-key.")
    if not ipaddress.ip_address(host).is_loopback and (token_file is None or tls_cert is None):
        raise InputError(
            f"others can reach {host}: a token and TLS are needed there",
            hint="Give --token-file, --tls-cert and --tls-key; or bind 127.0.0.1 and reach it "
            "through `ssh -L`.",
        )
    return Access(
        host=host,
        port=port,
        token=None if token_file is None else _token(token_file),
        tls=None if tls_cert is None or tls_key is None else _tls(tls_cert, tls_key),
    )


def _socket_file(path: Path) -> Path:
    if len(str(path).encode()) > _MAX_SOCKET_PATH:
        raise InputError(
            f"{str(path)!r} is longer than the {_MAX_SOCKET_PATH} bytes of a socket's name",
            hint="Name a file nearer to the root, e.g. below /run/user.",
        )
    if not path.parent.is_dir():
        raise NotFoundError(f"there is no folder {path.parent}", hint="Check the spelling.")
    if path.is_socket():  # left by a server that was killed, or in use
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise InputError(f"another server is at {path}", hint="Stop it, or name another.")
    elif path.exists():
        raise InputError(f"{path} exists, and is no socket", hint="Name another file.")
    return path


def _address(bind: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", bind)
    if match is None or int(match[3]) > 65535:
        raise InputError(f"--bind {bind!r} is not ADDRESS:PORT", hint="Try 127.0.0.1:8765.")
    host = match[1] or match[2]
    if host == "localhost":
        host = "127.0.0.1"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InputError(
            f"--bind {bind!r}: {host!r} is no address", hint="Names are not looked up: give an IP."
        ) from None
    return host, int(match[3])


def _token(file: Path) -> str:
    _exists("--token-file", file)
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"others can read the token in {file}", hint=f"chmod 600 {file}")
    with file.open("rb") as handle:
        content = handle.read(_MAX_TOKEN_FILE).strip()
    if len(content) < MIN_TOKEN or not re.fullmatch(rb"[!-~]+", content):
        raise InputError(
            f"{file} holds no token of {MIN_TOKEN} or more printable characters",
            hint=f"openssl rand -hex 32 > {file}",
        )
    return content.decode("ascii")


def _tls(cert: Path, key: Path) -> ssl.SSLContext:
    _exists("--tls-cert", cert)
    _exists("--tls-key", key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError) as e:
        raise InputError(
            f"{cert} and {key} are no certificate with its key: {e}", hint="Both are PEM files."
        ) from e
    return context


def _no_password() -> str:
    """OpenSSL would ask for one on the terminal."""
    raise ValueError("the key is encrypted")


def _exists(option: str, file: Path) -> None:
    if not file.is_file():
        raise NotFoundError(f"{option}: there is no file {file}", hint="Check the spelling.")
