"""The texts that files hold, one by one, whatever the format of the file."""

from stochloc.data.records.base import Record, RecordOrFault, RecordSource, joined
from stochloc.data.records.sources import Reading, record_source

__all__ = ["Reading", "Record", "RecordOrFault", "RecordSource", "joined", "record_source"]
