"""Who is told, and how: topic, webhook, Slack, e-mail, Alertmanager. One try each."""

from __future__ import annotations

import hashlib
import hmac
import smtplib
import ssl
from collections.abc import Mapping
from datetime import timedelta
from email.message import EmailMessage
from typing import Any, Protocol

import httpx
import orjson
from confluent_kafka import KafkaException, Producer

from herald.alerts.model import Alert
from herald.alerts.notice import ICONS, Notice
from herald.settings import Mail, Settings

TIMEOUT_SECONDS = 10.0
KEPT_FIRING = timedelta(days=7)
"""Alertmanager ends what is not repeated; an alert of ours is open until it is resolved."""


class DeliveryError(Exception):
    """A destination did not take it; the message says why and holds no secret."""


class Destination(Protocol):
    """Somebody to tell."""

    name: str
    takes: frozenset[str]
    """Transitions that it is told of."""
    is_person: bool
    """Whether a silence keeps it quiet."""

    def send(self, notice: Notice) -> str:
        """Tell it once; gives a word about the answer.

        Raises:
            DeliveryError: not taken, or nobody knows.
        """


ALL = frozenset({"opened", "resolved", "acknowledged", "silenced", "test"})
NEWS = frozenset({"opened", "resolved", "acknowledged", "test"})
ENDS = frozenset({"opened", "resolved", "test"})


class Topic:
    """`notifications.alerts.v1`: a record for each transition, keyed by alert."""

    name = "topic"
    takes = ALL
    is_person = False

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "message.timeout.ms": 10_000,
                "log_level": 3,
            },
            logger=None,
        )

    def send(self, notice: Notice) -> str:
        """Produce and wait for the broker."""
        failed: list[str] = []

        def taken(error: object, _message: object) -> None:
            if error is not None:
                failed.append(str(error))

        for one in notice.transitions:
            value = {**one.alert.model_dump(mode="json"), "transition": one.transition}
            try:
                self._producer.produce(
                    self._topic,
                    key=one.alert.alert_id.encode(),
                    value=orjson.dumps(value),
                    headers=[("idempotency-key", one.idempotency_key.encode())],
                    on_delivery=taken,
                )
            except (KafkaException, BufferError) as error:
                raise DeliveryError(f"topic {self._topic}: {error}") from error
        if self._producer.flush(TIMEOUT_SECONDS + 2) or failed:
            raise DeliveryError(f"topic {self._topic}: {', '.join(set(failed)) or 'no answer'}")
        return f"{len(notice.transitions)} records"


class Webhook:
    """JSON by POST, with an idempotency key and, with a secret, a signature."""

    name = "webhook"
    takes = ALL
    is_person = True

    def __init__(self, url: str, secret: str = "") -> None:
        self._url, self._secret = url, secret

    def send(self, notice: Notice) -> str:
        """Post it. `X-Herald-Signature` is `sha256=` and the HMAC-SHA256 of the body."""
        body = orjson.dumps(notice.body())
        headers = {"Idempotency-Key": notice.idempotency_key, "Content-Type": "application/json"}
        if self._secret:
            digest = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Herald-Signature"] = f"sha256={digest}"
        return _post(self.name, self._url, body, headers)


class Slack:
    """Slack's incoming webhooks, and what takes their format."""

    name = "slack"
    takes = NEWS
    is_person = True

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, notice: Notice) -> str:
        """Post text for the notification, blocks for the channel."""
        icon = "✅" if notice.transition == "resolved" else ICONS[notice.first.severity]
        title = f"{icon} {_escaped(notice.title)}"
        lines = "\n".join(f"• {_escaped(line)}" for line in notice.lines)
        about = f"Owner {_escaped(notice.first.owner)} · Runbook {_escaped(notice.runbook)}"
        section = f"*{title}*\n{lines}"[:3000]
        body = {
            "text": f"{title}\n{lines}",
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": section}},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": about[:2000]}]},
            ],
        }
        headers = {"Idempotency-Key": notice.idempotency_key, "Content-Type": "application/json"}
        return _post(self.name, self._url, orjson.dumps(body), headers)


class Alertmanager:
    """Alertmanager's API v2, which drops what it has by the labels."""

    name = "alertmanager"
    takes = ENDS
    is_person = False

    def __init__(self, url: str, runbook_url: str = "") -> None:
        self._url, self._runbook_url = f"{url.rstrip('/')}/api/v2/alerts", runbook_url

    def send(self, notice: Notice) -> str:
        """Post a list of alerts; a resolved one carries the time of its end."""
        body = [self._alert(one.alert, notice) for one in notice.transitions]
        headers = {"Content-Type": "application/json"}
        return _post(self.name, self._url, orjson.dumps(body), headers)

    @staticmethod
    def _alert(alert: Alert, notice: Notice) -> dict[str, Any]:
        labels = {
            "alertname": alert.rule, "tenant": alert.tenant_id, "severity": alert.severity,
            "kind": alert.kind, "owner": alert.owner, "alert_id": alert.alert_id,
            **{name: value or "(none)" for name, value in alert.group_key.items()},
        }  # fmt: skip
        ends = alert.resolved_at or alert.updated_at + KEPT_FIRING
        return {
            "labels": labels,
            "annotations": {
                "summary": alert.summary, "runbook": notice.runbook, "value": f"{alert.value:g}",
            },
            "startsAt": alert.opened_at.isoformat(),
            "endsAt": ends.isoformat(),
        }  # fmt: skip


class Smtp:
    """One mail a notice; `Message-ID` is the idempotency key."""

    name = "mail"
    takes = NEWS
    is_person = True

    def __init__(self, mail: Mail) -> None:
        self._mail = mail

    def send(self, notice: Notice) -> str:
        """Hand it to the server."""
        mail, message = self._mail, EmailMessage()
        recipients = [r.strip() for r in mail.recipients.split(",") if r.strip()]
        message["Subject"] = notice.title.replace("\n", " ")[:200]
        message["From"], message["To"] = mail.sender, ", ".join(recipients)
        message["Message-ID"] = f"<{notice.idempotency_key}@{mail.sender.partition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(
            "\n".join(
                [*notice.lines, "", f"Owner: {notice.first.owner}", f"Runbook: {notice.runbook}",
                 *(f"Alert: {t.alert.alert_id}" for t in notice.transitions)]
            )
        )  # fmt: skip
        try:
            with smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT_SECONDS) as server:
                if mail.starttls:
                    server.starttls(context=ssl.create_default_context())
                if mail.user:
                    server.login(mail.user, mail.password.get_secret_value())
                refused = server.send_message(message)
        except (OSError, smtplib.SMTPException) as error:
            raise DeliveryError(f"mail by {mail.host}:{mail.port}: {_reason(error)}") from error
        if refused:
            raise DeliveryError(f"mail: {len(refused)} of {len(recipients)} addresses refused")
        return f"{len(recipients)} recipients"


def destinations(settings: Settings) -> list[Destination]:
    """Everybody that the settings name; the topic always."""
    alerts = settings.alerts
    found: list[Destination] = [Topic(settings.kafka.servers, settings.kafka.topics.alerts)]
    if url := alerts.webhook_url.get_secret_value():
        found.append(Webhook(url, alerts.webhook_secret.get_secret_value()))
    if url := alerts.slack_url.get_secret_value():
        found.append(Slack(url))
    if alerts.alertmanager_url:
        found.append(Alertmanager(alerts.alertmanager_url, alerts.runbook_url))
    if alerts.mail.host and alerts.mail.recipients:
        found.append(Smtp(alerts.mail))
    return found


def _post(name: str, url: str, body: bytes, headers: Mapping[str, str]) -> str:
    try:
        answer = httpx.post(url, content=body, headers=dict(headers), timeout=TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # the address may hold a token: its host is enough
        raise DeliveryError(f"{name}: {_reason(error)}") from None
    if not answer.is_success:
        raise DeliveryError(f"{name}: HTTP {answer.status_code}: {answer.text[:200]}")
    return f"HTTP {answer.status_code}"


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {error.smtp_error!r}"[:300]
    return f"{type(error).__name__}: {error}"[:300]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
