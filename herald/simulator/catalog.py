"""What the simulated world is made of: places, devices, mailboxes, providers, user agents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where users live. weight: share of users; sms_cost: US dollars a text message."""

    country: str
    region: str
    city: str
    timezone: str
    locale: str
    weight: float
    sms_cost: float

    @property
    def language(self) -> str:
        """Language part of the locale."""
        return self.locale.partition("-")[0]


PLACES: tuple[Place, ...] = (
    Place("US", "US-NY", "New York", "America/New_York", "en-US", 9.0, 0.0079),
    Place("US", "US-FL", "Miami", "America/New_York", "es-US", 2.0, 0.0079),
    Place("US", "US-IL", "Chicago", "America/Chicago", "en-US", 6.0, 0.0079),
    Place("US", "US-CO", "Denver", "America/Denver", "en-US", 2.5, 0.0079),
    Place("US", "US-CA", "Los Angeles", "America/Los_Angeles", "en-US", 8.0, 0.0079),
    Place("CA", "CA-ON", "Toronto", "America/Toronto", "en-CA", 3.5, 0.0083),
    Place("CA", "CA-QC", "Montréal", "America/Toronto", "fr-CA", 1.5, 0.0083),
    Place("MX", "MX-CMX", "Ciudad de México", "America/Mexico_City", "es-MX", 4.0, 0.0452),
    Place("BR", "BR-SP", "São Paulo", "America/Sao_Paulo", "pt-BR", 6.0, 0.0356),
    Place("BR", "BR-RJ", "Rio de Janeiro", "America/Sao_Paulo", "pt-BR", 3.0, 0.0356),
    Place("AR", "AR-C", "Buenos Aires", "America/Argentina/Buenos_Aires", "es-AR", 2.0, 0.0523),
    Place("GB", "GB-LND", "London", "Europe/London", "en-GB", 7.0, 0.0420),
    Place("GB", "GB-MAN", "Manchester", "Europe/London", "en-GB", 2.5, 0.0420),
    Place("IE", "IE-D", "Dublin", "Europe/Dublin", "en-IE", 1.0, 0.0612),
    Place("DE", "DE-BE", "Berlin", "Europe/Berlin", "de-DE", 4.0, 0.0789),
    Place("DE", "DE-BY", "München", "Europe/Berlin", "de-DE", 3.5, 0.0789),
    Place("AT", "AT-9", "Wien", "Europe/Vienna", "de-AT", 1.2, 0.0701),
    Place("CH", "CH-ZH", "Zürich", "Europe/Zurich", "de-CH", 1.2, 0.0643),
    Place("FR", "FR-IDF", "Paris", "Europe/Paris", "fr-FR", 4.5, 0.0598),
    Place("FR", "FR-ARA", "Lyon", "Europe/Paris", "fr-FR", 1.5, 0.0598),
    Place("ES", "ES-MD", "Madrid", "Europe/Madrid", "es-ES", 3.0, 0.0552),
    Place("ES", "ES-CT", "Barcelona", "Europe/Madrid", "es-ES", 2.0, 0.0552),
    Place("PT", "PT-11", "Lisboa", "Europe/Lisbon", "pt-PT", 1.5, 0.0411),
    Place("NL", "NL-NH", "Amsterdam", "Europe/Amsterdam", "en-NL", 2.0, 0.0812),
    Place("SE", "SE-AB", "Stockholm", "Europe/Stockholm", "en-SE", 1.3, 0.0543),
    Place("ZA", "ZA-GT", "Johannesburg", "Africa/Johannesburg", "en-ZA", 1.5, 0.0221),
    Place("IN", "IN-MH", "Mumbai", "Asia/Kolkata", "en-IN", 5.0, 0.0403),
    Place("IN", "IN-KA", "Bengaluru", "Asia/Kolkata", "en-IN", 3.0, 0.0403),
    Place("SG", "SG-01", "Singapore", "Asia/Singapore", "en-SG", 1.0, 0.0395),
    Place("JP", "JP-13", "Tokyo", "Asia/Tokyo", "en-JP", 2.5, 0.0745),
    Place("AU", "AU-NSW", "Sydney", "Australia/Sydney", "en-AU", 2.5, 0.0515),
    Place("NZ", "NZ-AUK", "Auckland", "Pacific/Auckland", "en-NZ", 0.8, 0.0867),
)


@dataclass(frozen=True, slots=True)
class Device:
    """A user's main device. browser is what opens e-mail on it; user_agent is what it says."""

    platform: str
    device_class: str
    model: str
    os_version: str
    app_version: str
    browser: str
    user_agent: str
    weight: float


_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"


def _ios(model: str, kind: str, os: str, app: str, weight: float) -> Device:
    name = "iPad" if kind == "tablet" else "iPhone"
    cpu = f"{'' if name == 'iPad' else 'iPhone '}OS {os.replace('.', '_')}"
    agent = f"Mozilla/5.0 ({name}; CPU {cpu} like Mac OS X) {_WEBKIT} Version/{os} Mobile/15E148"
    return Device("ios", kind, model, os, app, "Safari", f"{agent} Safari/604.1", weight)


def _android(model: str, kind: str, os: str, app: str, weight: float) -> Device:
    mobile = " Mobile" if kind == "phone" else ""
    agent = f"Mozilla/5.0 (Linux; Android {os}; {model}) {_BLINK} Chrome/141.0.0.0{mobile}"
    return Device(
        "android", kind, model, os, app, "Chrome Mobile", f"{agent} Safari/537.36", weight
    )


def _web(system: str, os: str, browser: str, engine: str, weight: float) -> Device:
    agent = f"Mozilla/5.0 ({system}) {engine}"
    return Device("web", "desktop", "", os, "", browser, agent, weight)


DEVICES: tuple[Device, ...] = (
    _ios("iPhone15,4", "phone", "26.1", "8.4.0", 11),
    _ios("iPhone16,1", "phone", "26.0", "8.4.0", 9),
    _ios("iPhone14,5", "phone", "18.7", "8.3.2", 9),
    _ios("iPhone12,1", "phone", "18.5", "8.1.0", 6),
    _ios("iPad13,18", "tablet", "26.1", "8.4.0", 4),
    _android("Pixel 9", "phone", "16", "8.4.0", 6),
    _android("SM-S931B", "phone", "16", "8.4.0", 9),
    _android("SM-A546B", "phone", "15", "8.3.2", 10),
    _android("Redmi Note 13", "phone", "14", "8.2.1", 9),
    _android("moto g84", "phone", "14", "7.9.3", 5),
    _android("SM-X210", "tablet", "15", "8.3.2", 3),
    _web("Windows NT 10.0; Win64; x64", "Windows 11", "Chrome",
         f"{_BLINK} Chrome/141.0.0.0 Safari/537.36", 8),
    _web("Windows NT 10.0; Win64; x64", "Windows 11", "Edge",
         f"{_BLINK} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0", 4),
    _web("Macintosh; Intel Mac OS X 10_15_7", "macOS 26", "Safari",
         f"{_WEBKIT} Version/26.0 Safari/605.1.15", 4),
    _web("X11; Linux x86_64; rv:144.0", "Linux", "Firefox", "Gecko/20100101 Firefox/144.0", 1.5),
)  # fmt: skip

MAILBOXES: dict[str, float] = {
    "gmail": 46.0, "icloud": 12.0, "outlook": 16.0, "yahoo": 10.0, "gmx": 4.0, "corporate": 12.0,
}  # fmt: skip
"""Mailbox providers and their shares; security scanners live at `corporate`."""

APPLE_MPP_AGENT = "Mozilla/5.0"
GMAIL_PROXY_AGENT = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
)

SCANNER_AGENTS: tuple[str, ...] = (
    "Mozilla/5.0 (compatible; BarracudaCentral/1.0; +http://www.barracudacentral.org)",
    "Mozilla/5.0 (compatible; Proofpoint URL Defense)",
    "python-requests/2.32.3",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "HeadlessChrome/140.0.0.0 Safari/537.36",
)
"""User agents of scanners that say what they are; the silent ones borrow a desktop browser's."""

SILENT_SCANNER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36"
)


@dataclass(frozen=True, slots=True)
class Route:
    """How a message leaves: provider and sending pool of one channel."""

    channel: str
    provider: str
    ip_pool: str
    weight: float


ROUTES: tuple[Route, ...] = (
    Route("email", "sendgrid", "shared-eu-1", 30),
    Route("email", "sendgrid", "dedicated-promo-1", 30),
    Route("email", "ses", "ses-default", 25),
    Route("email", "ses", "ses-transactional", 15),
    Route("push", "apns", "", 1),
    Route("push", "fcm", "", 1),
    Route("sms", "twilio", "long-code", 60),
    Route("sms", "vonage", "short-code", 40),
    Route("in_app", "herald-sdk", "", 1),
)

COSTS: dict[str, float] = {"email": 0.0004, "push": 0.0001, "in_app": 0.0}
"""US dollars a send; text messages cost what `Place.sms_cost` says."""

CHANNELS: tuple[str, ...] = ("email", "push", "sms", "in_app")
"""Simulated channels; their index is used in arrays."""
