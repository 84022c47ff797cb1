"""From delivery to conversion: people, machines and scanners, and what they leave behind.

Every engagement probability is a base rate of the channel, times the campaign's, times the
variant's planted lift, times the user's traits at that hour. Sums of these probabilities are the
expected counts of the truth file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from herald.simulator.campaigns import Plan
from herald.simulator.catalog import (
    APPLE_MPP_AGENT,
    CHANNELS,
    DEVICES,
    GMAIL_PROXY_AGENT,
    MAILBOXES,
    SCANNER_AGENTS,
    SILENT_SCANNER_AGENT,
)
from herald.simulator.encode import MS_PER_DAY, MS_PER_HOUR, Ints
from herald.simulator.lifecycle import Mask, Outcome, fatigue
from herald.simulator.messages import EMAIL, IN_APP, PUSH, SMS, Messages
from herald.simulator.rows import Mark, Rows, Tails
from herald.simulator.users import Floats, Population, local_hours

# By channel: e-mail, push, SMS, in-app.
P_READ = np.array([0.215, 0.068, 1.0, 0.62])
"""E-mail read, push tapped, text read (not seen by anybody), in-app message shown."""
P_CLICK = np.array([0.115, 0.22, 0.055, 0.075])
"""Of those read. A push's click is its button."""
P_CONVERT = np.array([0.085, 0.055, 0.08, 0.06])
"""Of those clicked; of those tapped for push."""
P_ORGANIC = np.array([0.004, 0.004, 0.004, 0.004])
"""Converting within the window without the message: the same in treatment and holdout."""

HOUR_CONCENTRATION = 1.0
"""Engagement at the preferred hour over the opposite one is e^2 with it; its mean is 1."""
HOUR_MEAN = 1.2660658777520084
"""I0(1): the mean of exp(cos) over the day."""

P_MPP_OPEN = 0.92
P_GMAIL_PROXY = 0.06
P_SCAN = 0.9
P_UNSUBSCRIBE = 0.009
"""Of people who read an e-mail or text; per delivery about 0.15%."""
P_SPAM = 0.0018
P_INFLUENCED = 0.05
P_DISMISS_PUSH = 0.14
P_DISMISS_IN_APP = 0.45
CONVERSION_HOURS = 168
PRICE_POINTS = 64


@dataclass(slots=True)
class Engaged:
    """What the truth and later blocks need to know: per message of the block.

    visits: (message index, time) of sessions that messages caused; influenced ones are apart.
    """

    p_read: Floats
    p_click: Floats
    p_convert: Floats
    p_organic: Floats
    hidden_read: Mask
    is_scanned: Mask
    visits: list[tuple[Ints, Ints]]
    influenced: tuple[Ints, Ints]
    unsubscribed: tuple[Ints, Ints]
    converted: Mask


class Engagement:
    """Runs delivered messages to their opens, clicks, conversions and complaints."""

    def __init__(self, plan: Plan, tails: Tails) -> None:
        self.gmail = list(MAILBOXES).index("gmail")
        lifts = [
            (v.open_lift, v.click_lift, v.conversion_lift) if (v := cell.variant) else (0, 0, 0)
            for cell in plan.cells
        ]
        self.lift = np.array(lifts, dtype=np.float64)
        self.base_open = np.array([c.base_open for c in plan.campaigns])
        self.base_click = np.array([c.base_click for c in plan.campaigns])
        self.is_promotional = np.array(
            [c.blueprint.category != "transactional" for c in plan.campaigns]
        )
        browsers = [{"user_agent": d.user_agent, "browser": d.browser} for d in DEVICES]
        scanners = [{"user_agent": a} for a in (*SCANNER_AGENTS, SILENT_SCANNER_AGENT)]
        human, bot = Mark.HUMAN_CLICK, Mark.BOT_CLICK
        self.opened_email = np.array(
            [tails.code("email.opened", Mark.HUMAN_OPEN, **b) for b in browsers]
        )
        self.opened_push = tails.code("push.opened", Mark.HUMAN_OPEN)
        self.mpp = tails.code(
            "email.opened", Mark.MACHINE_OPEN, machine_open=True, user_agent=APPLE_MPP_AGENT
        )
        self.proxy = tails.code(
            "email.opened", Mark.MACHINE_OPEN, machine_open=True, user_agent=GMAIL_PROXY_AGENT
        )
        self.impressed = tails.code("in_app.impressed")
        self.dismissed = {c: tails.code(f"{CHANNELS[c]}.dismissed") for c in (PUSH, IN_APP)}
        self.clicked = np.zeros((len(plan.campaigns), 4, len(browsers)), dtype=np.int32)
        self.scanned = np.zeros((len(plan.campaigns), 4, len(scanners)), dtype=np.int32)
        self.converted = np.zeros((len(plan.campaigns), PRICE_POINTS), dtype=np.int32)
        self.saved = np.zeros(len(plan.campaigns), dtype=np.int32)
        for campaign in plan.campaigns:
            i, channel = campaign.number, campaign.blueprint.channel
            for j in range(4):
                link = campaign.links[j % len(campaign.links)]
                where = {"link_id": f"link_{j % len(campaign.links) + 1}", "link_url": link}
                if channel in ("push", "in_app"):
                    code = tails.code(f"{channel}.clicked", human, button_id="primary", **where)
                    self.clicked[i, j] = code
                    continue
                event = f"{channel}.clicked"
                self.clicked[i, j] = [tails.code(event, human, **where, **b) for b in browsers]
                self.scanned[i, j] = [tails.code(event, bot, **where, **s) for s in scanners]
            self.converted[i] = [
                tails.code(
                    f"{channel}.converted", Mark.CONVERTED,
                    conversion_name=campaign.blueprint.conversion, **_money(price),
                )
                for price in prices(campaign.blueprint.revenue)
            ]  # fmt: skip
            self.saved[i] = tails.code(f"{channel}.converted", conversion_name="item_saved")
        self.unsubscribed = {c: tails.code(f"{CHANNELS[c]}.unsubscribed") for c in (EMAIL, SMS)}
        self.spam = tails.code("email.marked_as_spam")

    def run(
        self, m: Messages, o: Outcome, population: Population, rows: Rows, rng: np.random.Generator
    ) -> Engaged:
        """Add every event after delivery and say what happened."""
        n, c = len(m), m.channel
        trait = self._traits(m, o, population)
        lift = self.lift[m.cell]
        shifts_read = (c == EMAIL) | (c == PUSH)
        read_factor = np.where(shifts_read, trait * self.base_open[m.campaign] * lift[:, 0], 1.0)
        read_factor = np.where(c == IN_APP, trait > 0, read_factor)
        click_factor = np.where(shifts_read, 1.0, trait) * self.base_click[m.campaign] * lift[:, 1]
        p_read = np.where(o.is_delivered, np.minimum(P_READ[c] * read_factor, 0.95), 0.0)
        p_click = np.minimum(P_CLICK[c] * click_factor, 0.9)
        p_convert = np.minimum(P_CONVERT[c] * lift[:, 2], 0.9)

        read = rng.random(n) < p_read
        delay = np.exp(rng.normal(np.array([15.6, 13.0, 12.6, 11.0])[c], 1.3, n))
        read_at = o.delivered_ms + np.minimum(delay, 5.5 * MS_PER_DAY).astype(np.int64)
        hidden = self._opens(m, o, population, rows, read, read_at, rng)
        clicked = read & (rng.random(n) < p_click)
        clicked_at = read_at + rng.integers(4_000, 180_000, n)
        self._clicks(m, population, rows, clicked, clicked_at, rng)
        scanned = self._scans(m, o, population, rows, rng)
        self._dismissals(m, o, rows, read, clicked, read_at, rng)

        acted = np.where(c == PUSH, read, clicked)
        acted_at = np.where(c == PUSH, read_at, clicked_at)
        organic = (rng.random(n) < P_ORGANIC[c]) & (o.is_sent | m.is_holdout)
        caused = acted & (rng.random(n) < p_convert)
        wait = np.minimum(np.exp(rng.normal(14.6, 1.2, n)), 0.9 * MS_PER_DAY).astype(np.int64)
        anyhow = o.sent_ms + rng.integers(MS_PER_HOUR, 150 * MS_PER_HOUR, n)
        converted_at = np.where(caused, acted_at + wait, anyhow)
        converted = np.flatnonzero(caused | organic)
        price = rng.integers(0, PRICE_POINTS, len(converted))
        rows.add(converted, converted_at[converted], self.converted[m.campaign[converted], price])
        saved = np.flatnonzero(acted & (rng.random(n) < 0.06))
        rows.add(saved, acted_at[saved] + 60_000, self.saved[m.campaign[saved]])

        unsubscribed = self._complaints(m, rows, read, read_at, rng)
        taps = np.flatnonzero(acted)
        quiet = o.is_delivered & (c == PUSH) & ~read & (trait > 0)
        influenced = np.flatnonzero(quiet & (rng.random(n) < P_INFLUENCED * np.minimum(trait, 4)))
        soon = o.delivered_ms[influenced] + rng.integers(20_000, 29 * 60_000, len(influenced))
        reached = np.where(c == PUSH, p_read, p_read * p_click)
        return Engaged(
            p_read, p_read * p_click, reached * p_convert,
            np.where(o.is_sent | m.is_holdout, P_ORGANIC[c], 0.0), hidden, scanned,
            [(taps, acted_at[taps] + 2_000)], (influenced, soon), unsubscribed,
            caused | organic,
        )  # fmt: skip

    @staticmethod
    def _traits(m: Messages, o: Outcome, population: Population) -> Floats:
        """Multiplier of engagement: level, affinity, hour, fatigue; 0 once churned."""
        user = m.user
        away = local_hours(population, user, o.sent_ms) - population.preferred_hour[user]
        hour = np.exp(HOUR_CONCENTRATION * np.cos(away * (2 * np.pi / 24))) / HOUR_MEAN
        affinity = population.affinity[user, m.channel]
        alive = population.churned_ms[user] > o.sent_ms
        level: Floats = population.engagement[user] * affinity * hour * fatigue(population, user)
        return level * alive

    def _opens(
        self,
        m: Messages,
        o: Outcome,
        population: Population,
        rows: Rows,
        read: Mask,
        read_at: Ints,
        rng: np.random.Generator,
    ) -> Mask:
        """Opens of people and machines. Behind Apple's privacy protection people are unseen."""
        n, c = len(m), m.channel
        mine = o.is_delivered & (c == EMAIL)
        private = mine & population.has_mpp[m.user]
        machine = np.flatnonzero(private & (rng.random(n) < P_MPP_OPEN))
        soon = np.exp(rng.normal(13.8, 1.4, len(machine)))
        fetched = o.delivered_ms[machine] + np.minimum(soon, 2 * MS_PER_DAY).astype(np.int64)
        rows.add(machine, fetched, self.mpp)
        gmail = mine & (population.mailbox[m.user] == self.gmail) & ~private
        proxied = np.flatnonzero(gmail & (rng.random(n) < P_GMAIL_PROXY))
        rows.add(proxied, o.delivered_ms[proxied] + rng.integers(3_000, 90_000, len(proxied)),
                 self.proxy)  # fmt: skip
        hidden: Mask = read & private
        seen = np.flatnonzero(read & mine & ~private)
        rows.add(seen, read_at[seen], self.opened_email[population.device[m.user[seen]]])
        again = seen[rng.random(len(seen)) < 0.18]
        rows.add(again, read_at[again] + rng.integers(60_000, 8 * MS_PER_HOUR, len(again)),
                 self.opened_email[population.device[m.user[again]]])  # fmt: skip
        tapped = np.flatnonzero(read & (c == PUSH))
        rows.add(tapped, read_at[tapped], self.opened_push, device=True)
        shown = np.flatnonzero(read & (c == IN_APP))
        rows.add(shown, read_at[shown], self.impressed, device=True)
        return hidden

    def _clicks(
        self,
        m: Messages,
        population: Population,
        rows: Rows,
        clicked: Mask,
        at: Ints,
        rng: np.random.Generator,
    ) -> None:
        on_device = (m.channel == PUSH) | (m.channel == IN_APP)
        for device in (False, True):
            who = np.flatnonzero(clicked & (on_device == device))
            for share, wait in ((1.0, 0), (0.15, 25_000)):
                again = who[rng.random(len(who)) < share]
                link = np.minimum(rng.geometric(0.7, len(again)) - 1, 2)
                tail = self.clicked[m.campaign[again], link, population.device[m.user[again]]]
                rows.add(again, at[again] + wait, tail, device=device)

    def _scans(
        self,
        m: Messages,
        o: Outcome,
        population: Population,
        rows: Rows,
        rng: np.random.Generator,
    ) -> Mask:
        """Security scanners follow every link within two seconds of the send."""
        scanned: Mask = o.is_delivered & (m.channel == EMAIL) & population.is_bot[m.user]
        scanned &= o.delivered_ms - o.sent_ms < 1_200
        scanned &= rng.random(len(m)) < P_SCAN
        who = np.flatnonzero(scanned)
        agent = rng.integers(0, len(SCANNER_AGENTS) + 1, len(who))
        first = o.delivered_ms[who] + rng.integers(20, 200, len(who))
        for link in range(4):
            rows.add(who, first + 90 * link, self.scanned[m.campaign[who], link, agent])
        return scanned

    def _dismissals(
        self,
        m: Messages,
        o: Outcome,
        rows: Rows,
        read: Mask,
        clicked: Mask,
        read_at: Ints,
        rng: np.random.Generator,
    ) -> None:
        draw = rng.random(len(m))
        push = o.is_delivered & (m.channel == PUSH) & ~read & (draw < P_DISMISS_PUSH)
        swiped = np.flatnonzero(push)
        rows.add(swiped, o.delivered_ms[swiped] + rng.integers(5_000, 2 * MS_PER_HOUR, len(swiped)),
                 self.dismissed[PUSH], device=True)  # fmt: skip
        shown = np.flatnonzero(read & (m.channel == IN_APP) & ~clicked & (draw < P_DISMISS_IN_APP))
        rows.add(shown, read_at[shown] + rng.integers(900, 15_000, len(shown)),
                 self.dismissed[IN_APP], device=True)  # fmt: skip

    def _complaints(
        self,
        m: Messages,
        rows: Rows,
        read: Mask,
        read_at: Ints,
        rng: np.random.Generator,
    ) -> tuple[Ints, Ints]:
        draw = rng.random(len(m))
        promotional = read & self.is_promotional[m.campaign]
        left: list[Ints] = []
        for channel, tail in self.unsubscribed.items():
            share = P_UNSUBSCRIBE if channel == EMAIL else P_UNSUBSCRIBE / 6
            gone = np.flatnonzero(promotional & (m.channel == channel) & (draw < share))
            rows.add(gone, read_at[gone] + 8_000, tail)
            left.append(gone)
        angry = promotional & (m.channel == EMAIL) & (draw > 1 - P_SPAM)
        rows.add(np.flatnonzero(angry), read_at[angry] + 6_000, self.spam)
        who = np.concatenate(left)
        return who, read_at[who] + 8_000


def prices(mean: float) -> list[float]:
    """Prices of conversions: log-normal quantiles with the given mean, in cents."""
    if not mean:
        return [0.0] * PRICE_POINTS
    middle = (np.arange(PRICE_POINTS) + 0.5) / PRICE_POINTS
    spread = np.exp(0.6 * np.sqrt(2) * _erfinv(2 * middle - 1))
    return [float(p) for p in np.round(mean * spread / spread.mean(), 2)]


def _erfinv(x: Floats) -> Floats:
    """Inverse error function, by Winitzki's formula: within 0.4%, enough for prices."""
    log = np.log(1 - x * x)
    first = 2 / (np.pi * 0.147) + log / 2
    value: Floats = np.sign(x) * np.sqrt(np.sqrt(first**2 - log / 0.147) - first)
    return value


def _money(price: float) -> dict[str, object]:
    return {"revenue": price, "currency": "USD"} if price else {}
