"""Importers against a recount of the files they read: small ones of ours, and the real one."""

from __future__ import annotations

import csv
import gzip
import io
import os
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from herald.contract.events import Event
from herald.contract.references import Campaign, Template
from herald.sources import hillstrom, open_bandit
from herald.sources.errors import SourceError
from herald.sources.imported import Imported, event_ids

BANDIT_HEADER = ",timestamp,item_id,position,click,propensity_score," + ",".join(
    f"user_feature_{i}" for i in range(4)
)
BANDIT_ROWS = (
    "0,2019-11-24 00:00:17.004101+00:00,11,3,0,0.0125,aa,bb,cc,d0",
    "1,2019-11-24 00:00:17.004101+00:00,4,2,1,0.0300,aa,bb,cc,d0",
    "2,2019-11-25 23:59:59.999000+00:00,11,1,0,0.0125,aa,bb,cc,d1",
)
HILLSTROM_HEADER = ",".join(hillstrom.COLUMNS)
HILLSTROM_ROWS = (
    "10,2) $100 - $200,142.44,1,0,Surburban,0,Phone,Womens E-Mail,0,0,0.0",
    "6,3) $200 - $350,329.08,1,1,Rural,1,Web,No E-Mail,1,1,42.5",
    "7,2) $100 - $200,180.65,0,1,Urban,1,Web,Mens E-Mail,1,1,99.0",
    "9,5) $500 - $750,675.83,1,0,Rural,1,Web,Mens E-Mail,0,1,0.0",
)


def bandit_archive(folder: Path, *, header: str = BANDIT_HEADER) -> Path:
    path = folder / "obp-0.5.7.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for policy in ("random", "bts"):
            for campaign in ("all", "men", "women"):
                data = "\n".join((header, *BANDIT_ROWS)).encode()
                info = tarfile.TarInfo(
                    f"obp-0.5.7/obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
                )
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def hillstrom_file(folder: Path) -> Path:
    path = folder / "hillstrom.csv.gz"
    path.write_bytes(gzip.compress("\n".join((HILLSTROM_HEADER, *HILLSTROM_ROWS)).encode()))
    return path


def hillstrom_files(folder: Path) -> list[Path]:
    """Our small file, and the real one where it lies."""
    real = Path(os.environ.get("HERALD_DATA_DIR", folder)) / "hillstrom.csv.gz"
    return list(dict.fromkeys([hillstrom_file(folder), *([real] if real.is_file() else [])]))


def values(data: Imported) -> list[dict[str, Any]]:
    return [orjson.loads(value or b"") for _, value in data.events]


def test_impressions_and_clicks_are_all_mapped_when_an_archive_is_read(tmp_path: Path) -> None:
    data = open_bandit.read(bandit_archive(tmp_path), ["random", "bts"])
    events = values(data)
    assert data.mapped == {"impressions": 18, "clicks": 6}
    assert Counter(e["event_type"] for e in events) == {
        "in_app.sent": 18, "in_app.impressed": 18, "in_app.clicked": 6,
    }  # fmt: skip
    assert len({e["event_id"] for e in events}) == data.total == 42
    assert len({e["message_id"] for e in events}) == 18
    assert {e["campaign_id"] for e in events} == {
        f"obd_{p}_{c}" for p in ("random", "bts") for c in ("all", "men", "women")
    }
    click = next(e for e in events if e["event_type"] == "in_app.clicked")
    assert click["occurred_at"] == "2019-11-24T00:00:17.004Z"
    assert click["template_id"].endswith("item_4")
    assert click["properties"] == {
        "position": 2, "propensity": 0.03, "item_id": 4, "user_feature_0": "aa",
        "user_feature_1": "bb", "user_feature_2": "cc", "user_feature_3": "d0",
    }  # fmt: skip
    assert len({e["user_id"] for e in events}) == 2


def test_events_are_valid_and_references_too_when_data_sets_are_mapped(tmp_path: Path) -> None:
    bandit = open_bandit.read(bandit_archive(tmp_path), ["random"])
    trial = hillstrom.read(hillstrom_file(tmp_path))
    for data in (bandit, trial):
        for key, value in data.events:
            event = Event.model_validate_json(value or b"")
            assert not event.model_extra
            assert event.user_id == key
        for _, value in data.references["campaigns"]:
            Campaign.model_validate_json(value or b"")
        for _, value in data.references.get("templates", []):
            Template.model_validate_json(value or b"")


def test_events_are_the_same_bytes_when_imported_twice(tmp_path: Path) -> None:
    archive, trial = bandit_archive(tmp_path), hillstrom_file(tmp_path)
    assert open_bandit.read(archive, ["bts"]) == open_bandit.read(archive, ["bts"])
    assert hillstrom.read(trial) == hillstrom.read(trial)


def test_the_same_rows_keep_their_ids_when_a_limit_is_set(tmp_path: Path) -> None:
    archive = bandit_archive(tmp_path)
    every = {e["message_id"] + e["event_type"]: e["event_id"] for e in values(
        open_bandit.read(archive, ["random", "bts"]))}  # fmt: skip
    some = open_bandit.read(archive, ["random", "bts"], limit=8)
    assert some.mapped["impressions"] == 8
    for event in values(some):
        assert every[event["message_id"] + event["event_type"]] == event["event_id"]


def test_ids_differ_when_salts_do() -> None:
    times = [1_574_553_617_004] * 1_000
    ids = [event_ids(times, salt) for salt in ("obd_random_all", "obd_random_men", "hillstrom")]
    assert len({i for part in ids for i in part}) == 3_000


@pytest.mark.parametrize("which", [0, -1])
def test_arms_visits_and_spend_equal_the_file_when_a_trial_is_read(
    which: int, tmp_path: Path
) -> None:
    path = hillstrom_files(tmp_path)[which]
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    events = values(hillstrom.read(path))
    kinds = Counter(e["event_type"] for e in events)
    treatments = Counter(row["treatment"] for row in rows)
    assert kinds["email.targeted"] == len(rows)
    assert kinds["email.aborted"] == treatments["No E-Mail"]
    assert kinds["email.sent"] == treatments["Mens E-Mail"] + treatments["Womens E-Mail"]
    assert kinds["app.session_started"] == sum(row["visit"] == "1" for row in rows)
    assert "email.clicked" not in kinds
    for arm, treatment in (("mens", "Mens E-Mail"), ("womens", "Womens E-Mail"),
                           ("holdout", "No E-Mail")):  # fmt: skip
        mine = [r for r in rows if r["treatment"] == treatment]
        bought = [e for e in events if e["event_type"] == "email.converted" and e["arm"] == arm]
        assert len(bought) == sum(r["conversion"] == "1" for r in mine)
        assert sum(e["revenue"] for e in bought) == pytest.approx(
            sum(float(r["spend"]) for r in mine)
        )
        assert all(bool(e.get("is_holdout")) == (arm == "holdout") for e in bought)
    times = [e["occurred_at"] for e in events]
    assert times == sorted(times)
    assert len({e["event_id"] for e in events}) == len(events)


def test_a_limit_reads_the_first_customers_when_given(tmp_path: Path) -> None:
    assert hillstrom.read(hillstrom_file(tmp_path), limit=2).mapped == {
        "customers": 2, "arm_holdout": 1, "arm_womens": 1, "visits": 1, "conversions": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"\x1f\x8bdamaged", "cannot be read"),
        (b"a,b\n1,2\n", "lacks columns recency"),
        (b"", "is not a CSV file"),
        (
            f"{HILLSTROM_HEADER}\n{HILLSTROM_ROWS[0].replace('Womens', 'Cats')}\n".encode(),
            "treatment 'Cats E-Mail' is none of",
        ),
    ],
)
def test_the_file_is_named_when_a_trial_cannot_be_read(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "trial.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as error:
        hillstrom.read(path)
    assert str(path) in str(error.value)


def test_the_archive_is_named_when_it_is_not_the_one_of_obp(tmp_path: Path) -> None:
    broken = tmp_path / "obp-0.5.7.tar.gz"
    broken.write_bytes(b"no archive")
    with pytest.raises(SourceError, match="cannot be read as a gzipped tar"):
        open_bandit.read(broken, ["random"])
    with tarfile.open(broken, "w:gz"):
        pass
    with pytest.raises(SourceError, match="is not the archive of obp"):
        open_bandit.read(broken, ["random"])
    bandit_archive(tmp_path, header="a,b,c,d,e,f,g,h,i,j")
    with pytest.raises(SourceError, match="lacks columns"):
        open_bandit.read(broken, ["random"])
