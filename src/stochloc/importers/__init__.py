"""Importers of other people's checkpoints, one file each; one joins by a line here."""

from stochloc.importers.base import Checkpoint, Imported, Importer, Told
from stochloc.importers.mdlm import Mdlm

IMPORTERS: dict[str, Importer] = {
    "mdlm": Mdlm(),
}

__all__ = ["IMPORTERS", "Checkpoint", "Imported", "Importer", "Told"]
