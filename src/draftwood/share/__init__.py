"""History that replicas share: finished texts travel through a log, each host indexes them.

    llm = dw.load("model", share="redis://broker:6379/0?channel=chat")

Hosts publish the texts that their models finish, and follow those of all others into their own
Recall; the index itself never travels. The log is one that people run already: Redis or Valkey
Streams, NATS JetStream, or files on shared storage. docs/sharing.md says what goes over the wire
and what holds when something breaks. Importing this package imports no client of a broker.
"""

from draftwood.share.options import ShareOptions
from draftwood.share.replica import Replica

__all__ = ["Replica", "ShareOptions"]
