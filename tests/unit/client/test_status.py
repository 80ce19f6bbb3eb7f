"""The block that shows how the session stands."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.client import messages
from relaylib.client.status import ToldStatus, Tone

FACTS = {
    "estado": "transmitiendo",
    "destino": "192.0.2.7:5004",
    "enviados": "8161",
    "perdidos": "0",
    "fuente": "activa",
    "forma": "rtp",
    "salud": "sano",
    "retraso": "0.0",
}


@pytest.fixture
def spanish() -> Iterator[None]:
    """Everything is said in Spanish meanwhile."""
    messages.use("es")
    yield
    messages.use("en")


def shown(status: ToldStatus, width: int = 80) -> list[str]:
    """The rows below the title, as text."""
    return ["".join(text for text, _ in row).rstrip() for row in status.rows(width)][1:]


def reported(**changes: str) -> ToldStatus:
    """A status after two reports, two seconds and 950 datagrams apart."""
    status = ToldStatus("192.0.2.1:9000")
    status.take({**FACTS, "enviados": "7211"}, 10.0)
    status.take({**FACTS, **changes}, 12.0)
    return status


def test_a_report_becomes_rows() -> None:
    """Every pair has a row in words, the counters with their rates; the title names the relay."""
    status = reported()
    assert shown(status) == [
        "state    streaming",
        "goes to  192.0.2.7:5004",
        "sent     8,161 datagrams, 475/s",
        "lost     0 datagrams, 0/s",
        "source   sending",
        "form     RTP",
        "health   good: nothing is missing",
        "delay    none: live",
    ]
    assert "192.0.2.1:9000" in "".join(text for text, _ in status.rows(80)[0])


@pytest.mark.usefixtures("spanish")
def test_it_speaks_spanish() -> None:
    """In Spanish the words, the labels and the separator of thousands are Spanish."""
    rows = shown(reported(retraso="61.7"))
    assert rows[0] == "estado    transmitiendo"
    assert rows[2] == "enviados  8.161 datagramas, 475/s"
    assert rows[-1] == "retraso   62 s por detrás del directo"


@pytest.mark.parametrize("word", ["fuente", "rele", "red", "silencio"])
def test_each_fault_says_what_to_do(word: str) -> None:
    """What is wrong stands out, with a hint behind the verdict."""
    rows = reported(salud=word).rows(200)
    (words, tone) = next(row[1] for row in rows if row[0][0].startswith("health"))
    assert tone in (Tone.BAD, Tone.WARN)
    assert len(words.split()) >= 5


@pytest.mark.parametrize(
    ("facts", "rows"),
    [
        ({}, []),
        ({"estado": "pausado"}, ["state  paused: CONTINUAR goes on"]),
        ({"estado": "volando", "salud": "rara"}, ["state   volando", "health  rara"]),
        ({"enviados": "muchos", "retraso": "?", "destino": "-"}, ["delay  ?"]),
        ({"destino": "\u6f22\u0301"}, [r"goes to  \u6f22\u0301"]),
    ],
)
def test_other_relays_tell_less_or_something_else(facts: dict[str, str], rows: list[str]) -> None:
    """What is missing has no row; a word that is not known is shown, in ASCII."""
    status = ToldStatus("relay")
    status.take(facts, 1.0)
    assert shown(status) == rows


def test_a_new_session_has_no_rate_yet() -> None:
    """A count that went back is another session's; two reports at once tell no rate."""
    status = reported(enviados="1")
    assert "sent     1 datagrams" in shown(status)
    status.take({**FACTS, "enviados": "1000"}, 12.1)
    assert "sent     1 datagrams" in shown(status)
    status.take({**FACTS, "enviados": "1001"}, 14.0)
    assert "sent     1,001 datagrams, 500/s" in shown(status)


def test_without_a_relay_only_that_is_shown() -> None:
    """Old counts do not stand there as if they were true."""
    status = reported()
    status.away = "not connected for 3 s; trying now"
    assert shown(status) == ["relay  not connected for 3 s; trying now"]


def test_counting_on_is_no_change() -> None:
    """Where blocks are printed one below the other, seconds and datagrams alone make no new one."""
    status = reported()
    shapes = [status.shape(), reported(enviados="9000", retraso="0.1").shape()]
    for away in ("not connected for 3 s", "not connected for 4 s"):
        status.away = away
        shapes.append(status.shape())
    assert [shape == shapes[0] for shape in shapes] == [True, True, False, False]
    assert shapes[2] == shapes[3]


@given(
    st.dictionaries(st.sampled_from(sorted(FACTS)), st.text(max_size=60)),
    st.integers(1, 200),
    st.integers(-1, 12),
)
def test_it_fits_whatever_the_terminal(facts: dict[str, str], width: int, height: int) -> None:
    """No row is as wide as the terminal, however narrow, nor are there more than fit."""
    status = ToldStatus("a.relay.with.a.long.name.example:9000")
    status.take(facts, 1.0)
    rows = status.rows(width, height)
    assert len(rows) <= max(0, height)
    for row in rows:
        assert sum(len(text) for text, _ in row) < max(width, 10)
