"""Drafting for sequences that somebody else decodes: what an engine or a server holds.

sessions = Sessions(RecallDrafter(), vocab_size=32_000, context_limit=8_192, nodes=16)
sessions.open(request_id, prompt_ids)
drafts = sessions.step([request_id], [new_ids])      # after every pass of the engine
sessions.close(request_id)

docs/engines.md says how to plug it in, point by point.
"""

from draftwood.sessions.draft_batch import DraftBatch, PaddedDrafts
from draftwood.sessions.rows import NewTokens, TokenRows
from draftwood.sessions.sessions import Sessions

__all__ = ["DraftBatch", "NewTokens", "PaddedDrafts", "Sessions", "TokenRows"]
