"""The loop over many sequences, which share the target's passes, and join and leave."""

from draftwood.batch.decoder import BatchDecoder, Turn, decode_batch
from draftwood.batch.one_by_one import OneByOne, open_batch
from draftwood.batch.request import Request

__all__ = ["BatchDecoder", "OneByOne", "Request", "Turn", "decode_batch", "open_batch"]
