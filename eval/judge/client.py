"""The judge behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import os

from openai import APIConnectionError, APIStatusError, OpenAI, OpenAIError

from eval.config import JudgeConfig
from eval.judge.comparison import Messages
from nlirg.errors import InputError

KEY = "NLIRG_JUDGE_API_KEY"
TIMEOUT_S = 120.0
# What a server says of one request: too long, not to be answered. Others may be well.
REFUSALS = (400, 413, 422)
LONGEST_REASON = 300
# With the client's growing pauses (and what `Retry-After` says) about half a minute.
RETRIES = 6


class JudgeClient:
    """Asks a judge; may be used by several threads.

    Timeouts, lost connections, 408, 409, 429 and server errors are tried again.

    Args:
        config: endpoint and model. The key comes from the environment alone; an endpoint that
            needs none gets a placeholder.
        timeout_s: of one try.
    """

    def __init__(self, config: JudgeConfig, timeout_s: float = TIMEOUT_S) -> None:
        self._config = config
        self._client = OpenAI(
            base_url=config.base_url,
            api_key=os.environ.get(KEY) or "none",
            timeout=timeout_s,
            max_retries=RETRIES,
        )

    def ask(self, messages: Messages) -> str:
        """The judge's reply; empty if it says nothing, and what the server says if it refuses.

        Raises:
            InputError: if the endpoint cannot be reached, refuses us, or is none of this kind.
        """
        try:
            completion = self._client.chat.completions.create(
                model=self._config.model,
                messages=messages,  # type: ignore[arg-type]
                temperature=0,
            )
            return completion.choices[0].message.content or ""
        except APIStatusError as error:
            if error.status_code in REFUSALS:  # no JSON, so it is counted as unreadable
                return f"(HTTP status {error.status_code}: {_reason(error)})"
            hint = f"; is {KEY} right?" if error.status_code in (401, 403) else ""
            said = f"HTTP status {error.status_code}: {_reason(error)}{hint}"
            raise InputError(f"{self._where}: {said}") from None
        except APIConnectionError as error:
            raise InputError(f"{self._where}: {error.message.rstrip('.')}") from None
        except (OpenAIError, ValueError, AttributeError, IndexError, TypeError):
            raise InputError(
                f"{self._where}: does not answer as an OpenAI-compatible endpoint does"
            ) from None

    @property
    def _where(self) -> str:
        return f"evaluate.judge: {self._config.base_url}"


def _reason(error: APIStatusError) -> str:
    """What the server says in one line, without the key, which it may repeat."""
    said = error.body.get("message") if isinstance(error.body, dict) else None
    text = " ".join(str(said or error.response.reason_phrase).split())
    if key := os.environ.get(KEY):
        text = text.replace(key, "***")
    return text[:LONGEST_REASON]
