"""The description of the HTTP interface as a page: OpenAPI read aloud, without a script."""

from html import escape
from typing import Any

from stochloc.app.limits import LIMITS

_DETAIL = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["detail"],
                "properties": {"detail": {"type": "string", "description": "One sentence."}},
            }
        }
    }
}
_WHY = {
    400: "The body is not JSON in UTF-8.",
    401: "The server needs its token, and it was not sent.",
    403: "The request comes from another site, or names another host.",
    408: "The body did not arrive in time.",
    413: f"The body is larger than {LIMITS.body} bytes.",
    422: "A value makes no sense; the sentence says which are allowed.",
    429: "As many requests are running as may run; Retry-After says when to try again.",
}
# What may be answered in place of a result, for every address.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": why, **_DETAIL} for status, why in _WHY.items()
}


def page(description: dict[str, Any]) -> str:
    """Return a page that shows every address and every name of a body.

    Args:
        description: The OpenAPI description.

    Returns:
        HTML, without anything that is fetched but the style of the page.
    """
    schemas = description.get("components", {}).get("schemas", {})
    parts = [
        _address(path, method, facts, schemas)
        for path, methods in description["paths"].items()
        for method, facts in methods.items()
    ]
    rows = "".join(f"<li>{status}: {escape(why)}</li>" for status, why in _WHY.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>stochloc: HTTP interface</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css"><link rel="stylesheet" href="/static/docs.css">
</head><body class="docs"><header><h1>HTTP interface</h1>
<p>{escape(description["info"].get("description", ""))}
The same as OpenAPI: <a href="/openapi.json">openapi.json</a>. <a href="/">The page.</a></p>
</header>
<main>{"".join(parts)}
<section><h2>Refusals</h2><p>JSON with one sentence, <code>{{"detail": "..."}}</code>.</p>
<ul>{rows}</ul></section></main></body></html>
"""


def _address(path: str, method: str, facts: dict[str, Any], schemas: dict[str, Any]) -> str:
    title = f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
    summary = f"<p>{escape(facts.get('summary', ''))}</p>"
    told = "".join(f"<p>{escape(p)}</p>" for p in facts.get("description", "").split("\n\n") if p)
    body = facts.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
    table = _table(schemas[name], schemas) if name else ""
    return f"<section>{title}{summary}{told}{table}</section>"


def _table(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><th scope='row'><code>{escape(name)}</code></th><td>{escape(_kind(facts, schemas))}"
        f"</td><td>{'required' if name in required else _default(facts)}</td>"
        f"<td>{escape(_meaning(facts))}</td></tr>"
        for name, facts in schema.get("properties", {}).items()
    )
    head = "".join(
        f"<th scope='col'>{name}</th>" for name in ("name", "value", "default", "meaning")
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div class='wide'>{table}</div>"


def _default(facts: dict[str, Any]) -> str:
    return escape(repr(facts["default"])) if facts.get("default") is not None else ""


def _meaning(facts: dict[str, Any]) -> str:
    return facts.get("description", "")


def _kind(facts: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Return what a value is, in words."""
    if "$ref" in facts:
        name = facts["$ref"].rpartition("/")[2]
        inner = schemas[name].get("properties", {})
        return "{" + ", ".join(f"{key}: {_kind(of, schemas)}" for key, of in inner.items()) + "}"
    if "enum" in facts:
        return " | ".join("null" if one is None else str(one) for one in facts["enum"])
    if "pattern" in facts:
        return f"{facts['type']} like {facts['pattern']}"
    if "anyOf" in facts:
        return " or ".join(dict.fromkeys(_kind(one, schemas) for one in facts["anyOf"]))
    if facts.get("type") == "array":
        return f"list of {_kind(facts.get('items', {}), schemas)}{_bounds(facts, 'Items')}"
    return f"{facts.get('type', 'anything')}{_bounds(facts, 'Length')}"


def _bounds(facts: dict[str, Any], counted: str) -> str:
    low = facts.get("minimum", facts.get("exclusiveMinimum", facts.get(f"min{counted}")))
    high = facts.get("maximum", facts.get("exclusiveMaximum", facts.get(f"max{counted}")))
    if low is None and high is None:
        return ""
    return f" ({'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'})"
