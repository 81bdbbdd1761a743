"""The door: who may ask, and how much.

The server computes for whoever reaches it, so it must not be reached by a page of another site that
the user's browser has open. Such a page can send a request to this address, but not hide where it
comes from:

- *Host* is the name in the browser's address bar. A foreign name that was made to point to this
  machine (DNS rebinding) is refused.
- *Origin* is the site of the page that asks. It must be the one that is asked.
- On an address that others can reach, everything needs the token: in the page's address once, from
  then on in a cookie that no other site's request carries, or as a bearer token.

A body is read whole before anything is done with it, and refused as soon as it is too large.
"""

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stochloc.app.failures import refusal
from stochloc.app.limits import LIMITS

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MOST_WAIT_S = 30.0
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Door:
    """Who may ask.

    Attributes:
        hosts: Names under which the server may be asked; None for any, which needs a token.
        token: What a client must know; None for nothing.
    """

    hosts: frozenset[str] | None = LOOPBACK
    token: str | None = None

    def __post_init__(self) -> None:
        if self.hosts is None and not self.token:
            raise ValueError(
                "An address that other machines can reach needs a --token, which clients must know."
            )

    @classmethod
    def of(cls, host: str, token: str | None) -> "Door":
        """Return the door of a server on an address.

        Args:
            host: The address it is bound to.
            token: What a client must know; None for nothing.

        Returns:
            The door.

        Raises:
            ValueError: Other machines can reach the address, and there is no token; or the token
                cannot be written in an address.
        """
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ValueError("A token is made of printable ASCII characters; choose another one.")
        return cls(LOOPBACK if host in LOOPBACK else None, token)

    def answers(self, scope: Scope) -> Response | None:
        """Return what a request is told that may not enter, or not yet; None if it may.

        Args:
            scope: The request, as ASGI has it.

        Returns:
            A refusal with status 403 or 401; or, to a request whose address has the token, a
            redirection to the address without it, with a cookie that remembers it; or None.
        """
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and _name(host) not in self.hosts:
            return refusal(403, "This server answers to its own address only, not to this Host.")
        if origin is not None and _netloc(origin) != host:
            return refusal(403, "Pages of another site may not ask this server.")
        if self.token is None or self._knows(headers.get("authorization", "")[len("Bearer ") :]):
            return None
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._knows(dict(pairs).get("token", "")) and scope["method"] == "GET":
            return self._remembers(str(scope["path"]), [p for p in pairs if p[0] != "token"])
        if self._knows(_cookie(headers, self._cookie_name)):
            return None
        return refusal(
            401,
            "This server needs its token: open the page with ?token=..., or send it as a bearer "
            "token.",
            {"WWW-Authenticate": "Bearer"},
        )

    @property
    def _cookie_name(self) -> str:
        # Servers on other ports share the cookies of a host.
        return f"stochloc-{sha256((self.token or '').encode()).hexdigest()[:12]}"

    def _knows(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), (self.token or "").encode())

    def _remembers(self, path: str, rest: list[tuple[str, str]]) -> Response:
        query = f"?{urlencode(rest)}" if rest else ""
        # A path that begins with two slashes would name another host.
        response = RedirectResponse("/" + path.lstrip("/\\") + query, 303)
        response.set_cookie(self._cookie_name, self.token or "", httponly=True, samesite="strict")
        return response


class Guard:
    """Lets through whom a door lets enter, with bodies of bounded size; adds headers of trust.

    Args:
        app: What is behind the door.
        door: Who may enter.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def trusted(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        response = self.door.answers(scope)
        if response is None:
            read = await _read(scope, receive)
            if not isinstance(read, Response):
                await self.app(scope, read, trusted)
                return
            response = read
        await response(scope, receive, trusted)


async def _read(scope: Scope, receive: Receive) -> Receive | Response:
    """Return a source of the whole body, then of what comes after it; or why it is refused."""
    too_large = refusal(
        413, f"The request is too large: its body may have {LIMITS.body} bytes.",
        {"Connection": "close"},
    )  # fmt: skip
    length = Headers(scope=scope).get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > LIMITS.body:
        return too_large
    messages, size, is_more = deque[Message](), 0, True
    try:
        async with asyncio.timeout(MOST_WAIT_S):
            while is_more:
                message = await receive()
                messages.append(message)
                size += len(message.get("body", b""))
                is_more = bool(message.get("more_body", False))
                if size > LIMITS.body:
                    return too_large
    except TimeoutError:
        return refusal(408, "The request did not arrive in time; send it again.")

    async def replay() -> Message:
        return messages.popleft() if messages else await receive()

    return replay


def _netloc(origin: str) -> str | None:
    """Return host and port of an origin; None if it has none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _name(host: str) -> str:
    """Return the name of a host, without its port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cookie(headers: Headers, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
