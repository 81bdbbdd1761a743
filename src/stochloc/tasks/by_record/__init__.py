"""Work on files larger than memory, record by record, into a file of JSON Lines."""

from stochloc.tasks.by_record.loop import Done, work_through
from stochloc.tasks.by_record.share import Share
from stochloc.tasks.by_record.work import RecordWork

__all__ = ["Done", "RecordWork", "Share", "work_through"]
