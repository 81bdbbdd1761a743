"""The web page and the HTTP interface of `stochloc demo`; needs the extra `demo`."""
