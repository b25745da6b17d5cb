"""From recorded text to token ids: tokenizers by file, folder or name, and chat templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from draftwood.bundled import bundled
from draftwood.draft import TokenIds
from draftwood.errors import MissingExtra, TraceError
from draftwood.logs.call import ChatMessage, Conversation, LoggedCall
from draftwood.logs.template import CHATML, ChatTemplate, answer_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_END_NAMES = (
    *("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end_of_text|>"),
    *("<|endoftext|>", "</s>", "<eos>", "[EOS]"),
)
"""End tokens of well-known families, for a tokenizer.json without the files that name its own."""
_HUB_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"),
    *("generation_config.json", "chat_template.jinja"),
)


class _Encoded(Protocol):
    """The ids of one text."""

    ids: list[int]


class Backend(Protocol):
    """What encodes: a `tokenizers.Tokenizer`, or what has its methods."""

    def get_vocab(self) -> dict[str, int]:
        """Token text -> id."""

    def get_vocab_size(self) -> int:
        """Ids are below it."""

    def encode_batch_fast(
        self, input: list[str], *, add_special_tokens: bool
    ) -> Sequence[_Encoded]:
        """The ids of each text."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of ids."""


class TraceTokenizer:
    """A tokenizer for recorded texts. Texts are encoded as they stand: no BOS, no chat template.

    end_token: the id that ends a response, or None where the tokenizer names none. vocab_size:
    ids are below it. template: what conversations go through; ChatML where the tokenizer has none,
    as `has_template` says.
    """

    def __init__(
        self,
        tokenizer: Backend | Tokenizer,
        end_token: int | None = None,
        *,
        template: str | None = None,
        special: Mapping[str, str] | None = None,
    ) -> None:
        self._tokenizer: Any = tokenizer
        self.end_token = end_token
        self.vocab_size: int = tokenizer.get_vocab_size()
        self.has_template = template is not None
        self._source, self._special = template or CHATML, special
        self._template: ChatTemplate | None = None

    @classmethod
    def load(cls, name: Path | str) -> TraceTokenizer:
        """By a tokenizer.json, a model folder that holds one, a .gguf file, or a name.

        name: also that of a bundled model, of tiktoken's (`o200k_base`, `gpt-4o`; they are fetched
        once), or of a model on the Hugging Face Hub (`owner/name`, fetched once).

        Raises:
            TraceError: no such file, one that is no tokenizer, or a name that cannot be reached.
            TokenizerMissing: a .gguf file without a tokenizer that can be read.
            MissingExtra: the package for it is not installed.
        """
        path = Path(bundled(str(name)))
        if path.suffix == ".gguf" and path.is_file():
            return cls._of_gguf(path)
        if not path.exists():
            if (tiktoken := _tiktoken(str(name))) is not None:
                return cls(tiktoken, tiktoken.end_token)
            if (folder := _from_hub(str(name))) is None:
                raise TraceError(
                    f"no tokenizer at {path}; pass a tokenizer.json, a folder that holds one, a "
                    ".gguf file, a tiktoken name such as o200k_base, or a Hub id (owner/name)"
                )
            path = folder
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise TraceError(
                f"no tokenizer at {path}; pass a tokenizer.json or a folder that holds one"
            )
        tokenizer = _from_file(file)
        template, special = _template_of(file.parent)
        return cls(
            tokenizer, _end_token(tokenizer, file.parent), template=template, special=special
        )

    @classmethod
    def _of_gguf(cls, path: Path) -> TraceTokenizer:
        from draftwood.targets.transformers.gguf_tokenizer import gguf_tokenizer

        found = gguf_tokenizer(path)
        special = {name: str(text) for name, text in found.special_tokens_map.items()}
        return cls(
            found.backend_tokenizer,
            found.eos_token_id,
            template=found.chat_template if isinstance(found.chat_template, str) else None,
            special=special,
        )

    @property
    def vocab(self) -> dict[str, int]:
        """Token text -> id, added tokens included."""
        found: dict[str, int] = self._tokenizer.get_vocab()
        return found

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """The token ids of each text; encoded in parallel."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(item.ids, dtype=np.int32) for item in encoded]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token; parts of a character are shown as what they are not."""
        return [str(self._tokenizer.decode([each], skip_special_tokens=False)) for each in ids]

    def texts(self, call: LoggedCall) -> tuple[str | TokenIds, str | TokenIds]:
        """The prompt and the response of a call as text, or as the ids that they are.

        Raises:
            TraceError: the chat template refuses the conversation.
        """
        if not isinstance(call.prompt, Conversation):
            return call.prompt, _said(call.response)
        if isinstance(call.response, np.ndarray):
            prompt = self._chat.text(call.prompt.messages, call.prompt.tools, asks=True)
            return prompt, call.response
        answer: ChatMessage = (
            {"role": "assistant", "content": call.response}
            if isinstance(call.response, str)
            else call.response
        )
        return self._chat.exchange(call.prompt.messages, call.prompt.tools, answer)

    @property
    def _chat(self) -> ChatTemplate:
        if self._template is None:
            self._template = ChatTemplate(self._source, self._special)
        return self._template


def _said(response: str | TokenIds | ChatMessage) -> str | TokenIds:
    return response if isinstance(response, str | np.ndarray) else answer_text(response)


def _from_file(file: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra(
            "replaying text needs the tokenizers package; install draftwood[replay]"
        ) from None
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare Exception
        raise TraceError(f"{file} is no tokenizer.json: {error}") from None


def _template_of(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The chat template of a model folder, and its special tokens by name."""
    config = _read(folder / "tokenizer_config.json")
    special = {}
    for name, token in {**_read(folder / "special_tokens_map.json"), **config}.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            special[name] = text
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8"), special
    except OSError:
        pass
    template = config.get("chat_template")
    if isinstance(template, list):  # several by name
        named = {each.get("name"): each.get("template") for each in template}
        template = named.get("default")
    return (template if isinstance(template, str) else None), special


class _Tiktoken:
    """An encoding of tiktoken with the methods of a `tokenizers.Tokenizer`."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self.end_token: int | None = encoding.eot_token

    def get_vocab_size(self) -> int:
        return int(self._encoding.n_vocab)

    def get_vocab(self) -> dict[str, int]:
        found = {}
        for token in range(self._encoding.n_vocab):
            try:
                piece = self._encoding.decode_single_token_bytes(token)
            except KeyError:  # numbers between the tokens that mean nothing
                continue
            found[piece.decode("latin-1")] = token
        return found

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return str(self._encoding.decode(ids))

    def encode_batch_fast(
        self, input: list[str], *, add_special_tokens: bool
    ) -> Sequence[_Encoded]:
        return [_Ids(ids) for ids in self._encoding.encode_batch(input, allowed_special="all")]


class _Ids:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


def _tiktoken(name: str) -> _Tiktoken | None:
    """The encoding or the model of that name; None: tiktoken is not there or knows no such name.

    Raises:
        TraceError: its ranks cannot be fetched.
    """
    try:
        import tiktoken
    except ImportError:
        return None
    if name in tiktoken.list_encoding_names():
        fetch = tiktoken.get_encoding
    else:
        try:
            tiktoken.encoding_name_for_model(name)
        except KeyError:
            return None
        fetch = tiktoken.encoding_for_model
    try:
        return _Tiktoken(fetch(name))
    except Exception as error:  # the client of the network raises its own
        raise TraceError(
            f"tiktoken cannot fetch {name} ({type(error).__name__}); put its file where "
            "TIKTOKEN_CACHE_DIR says, or pass a tokenizer.json"
        ) from None


def _from_hub(name: str) -> Path | None:
    """The folder of the tokenizer's files of a model on the Hub; None: no such form of a name.

    Raises:
        TraceError: it cannot be reached, and is not in the cache.
    """
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # not found, not allowed, no network: each its own class
        raise TraceError(
            f"no folder {name}, and the Hub gives no tokenizer of that name "
            f"({type(error).__name__}); pass a tokenizer.json or a model folder"
        ) from None


def _end_token(tokenizer: Tokenizer, folder: Path) -> int | None:
    """The end token that the files beside tokenizer.json name; else a well-known special token."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = _read(folder / name).get("eos_token")
        text = token.get("content") if isinstance(token, dict) else token
        found = None if text is None else tokenizer.token_to_id(text)
        if found is not None:
            return int(found)
    for name in ("generation_config.json", "config.json"):
        ids = _read(folder / name).get("eos_token_id")
        first = ids[0] if isinstance(ids, list) and ids else ids
        if isinstance(first, int):
            return first
    special = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    return next((special[name] for name in _END_NAMES if name in special), None)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
