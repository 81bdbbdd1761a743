"""The command that opens the page."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated

import tyro

from stochloc.cli.options import MaybeInt, MaybeText, OfWeights, Weights, optional
from stochloc.cli.ranges import Range
from stochloc.terminal import say, tell


@dataclass
class Demo:
    """Open a page in the browser where one watches and steers a walk; and serve models by HTTP."""

    run_folders: Annotated[tuple[str, ...], tyro.conf.Positional, optional("RUN [RUN ...]")]
    """Folders of runs, or models' names on the Hugging Face hub."""
    port: Annotated[MaybeInt, Range(0, 65535)] = None
    """Port to serve on; the first free one from 7860 when absent."""
    host: str = "127.0.0.1"
    """Address to serve on; any other than this machine's own needs --token."""
    token: MaybeText = None
    """What a client must send: in the page's address, ?token=, or as a bearer token."""
    open: bool = True
    """Whether to open the page in the browser."""
    weights: OfWeights = field(default_factory=Weights)

    def run(self) -> None:
        """Serve until interrupted."""
        for name in ("fastapi", "uvicorn"):
            if find_spec(name) is None:
                raise ValueError(
                    f'The page needs {name}; install it with: pip install "stochloc[demo]"'
                )
        from stochloc.app.guard import Door
        from stochloc.app.limits import LIMITS
        from stochloc.app.server import create_app
        from stochloc.app.serving import address_of, bind, open_browser, run
        from stochloc.app.shelf import Shelf
        from stochloc.app.turns import Turns

        if not self.run_folders:
            raise ValueError("Give the folder of a run to serve.")
        door = Door.of(self.host, self.token)
        shelf = Shelf.of([self.weights.open(folder) for folder in self.run_folders])
        shelf.warm_up()
        turns = Turns(LIMITS.running)
        app = create_app(shelf, turns, door)
        bound = bind(self.host, self.port)
        address = address_of(self.host, bound, self.token)
        say(address)
        tell("stochloc: Ctrl-C ends the server.")
        if self.open:
            open_browser(address)
        run(app, bound, turns.leave_all)
