"""VLC's notation for where a stream comes from and where it goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.net.mrl import Mrl, is_group, parse, parse_output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp://@:5004", Mrl("udp", "", "", 5004)),
        ("udp://@", Mrl("udp", "", "", 1234)),
        ("rtp://@", Mrl("rtp", "", "", 5004)),
        ("udp://:6000", Mrl("udp", "", "", 6000)),
        ("UDP://@192.168.1.5/", Mrl("udp", "", "192.168.1.5", 1234)),
        ("udp://@239.1.1.1:5004", Mrl("udp", "", "239.1.1.1", 5004)),
        ("udp://10.0.0.5@232.1.1.1:5004", Mrl("udp", "10.0.0.5", "232.1.1.1", 5004)),
        ("rtp://@239.1.1.1?iface=10.0.0.1", Mrl("rtp", "", "239.1.1.1", 5004, "10.0.0.1")),
        ("udp://@[::]:5004", Mrl("udp", "", "::", 5004)),
        ("udp://@[fe80::1%eth0]:5004", Mrl("udp", "", "fe80::1%eth0", 5004)),
        ("udp://@[ff02::1%eth0]:5004", Mrl("udp", "", "ff02::1", 5004, "eth0")),
        ("udp://@[ff02::1%eth0]?iface=eth0", Mrl("udp", "", "ff02::1", 1234, "eth0")),
        ("udp://[fd00::2]@[ff35::1]:5?iface=br-0.7",
         Mrl("udp", "fd00::2", "ff35::1", 5, "br-0.7")),
        ("udp://239.2.2.2:5004?ttl=4&iface=eth0", Mrl("udp", "", "239.2.2.2", 5004, "eth0", 4)),
        ("udp://239.2.2.2:5004?ttl=4&iface=", Mrl("udp", "", "239.2.2.2", 5004, "", 4)),
        ("rtp://screen.example:5004", Mrl("rtp", "", "screen.example", 5004)),
    ],
)  # fmt: skip
def test_mrls_are_those_of_vlc(text: str, expected: Mrl) -> None:
    """Every form, with VLC's default ports, means what it means to VLC."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not an MRL"),
        ("http://@:5004", "not an MRL"),
        ("udp://@1.2.3.4:x", "not an MRL"),
        ("udp://@ff15::1:5004", "not an MRL"),
        ("udp://10.0.0.5:99@232.1.1.1", "not an MRL"),
        ("udp://@:5004\n", "not an MRL"),
        ("udp://@[1.2.3.4]:5004", "not an IPv6 address"),
        ("udp://@[ff02::1%]:5004", "not an IPv6 address"),
        ("udp://@[::ffff:239.1.1.1]:5004", "plainly"),
        ("udp://@:0", "not a port"),
        ("udp://@:65536", "not a port"),
        ("udp://@239.1.1.1?pkt_size=1316", "no option"),
        ("udp://@239.1.1.1?iface=a&iface=b", "twice"),
        ("udp://@[ff02::1%a]?iface=b", "two interfaces"),
        ("udp://239.1.1.1?ttl=256", "not a ttl"),
        ("udp://239.1.1.1?ttl=-1", "not a ttl"),
        ("udp://encoder@232.1.1.1", "address of a source"),
        ("udp://239.1.1.1@232.1.1.1", "address of a source"),
        ("udp://0.0.0.0@232.1.1.1", "address of a source"),
        ("udp://10.0.0.5@[ff35::1]", "one is IPv4 and one IPv6"),
    ],
)
def test_what_is_no_mrl_is_told_why(text: str, complaint: str) -> None:
    """A wrong MRL is one plain sentence, which names it."""
    with pytest.raises(ValueError, match=complaint) as error:
        parse(text)
    assert repr(text) in str(error.value)


def _write(mrl: Mrl, *, way_in: bool) -> str:
    source, host = (f"[{each}]" if ":" in each else each for each in (mrl.source, mrl.host))
    options = [f"iface={mrl.iface}"] if mrl.iface else []
    options += [] if mrl.ttl is None else [f"ttl={mrl.ttl}"]
    at = "@" if way_in or source else ""
    return f"{mrl.scheme}://{source}{at}{host}:{mrl.port}" + "?" * bool(options) + "&".join(options)


_hosts = {
    4: st.ip_addresses(v=4).map(str),
    6: st.ip_addresses(v=6).map(str).filter(lambda ip: not ip.startswith("::ffff:")),
}


@st.composite
def _mrls(draw: st.DrawFn) -> Mrl:
    hosts = _hosts[draw(st.sampled_from((4, 6)))]
    senders = hosts.filter(lambda ip: not is_group(ip) and ip not in ("::", "0.0.0.0"))
    return Mrl(
        draw(st.sampled_from(("udp", "rtp"))),
        draw(st.just("") | senders),
        draw(st.just("") | hosts),
        draw(st.integers(1, 65535)),
        draw(st.just("") | st.from_regex(r"[a-z][a-z0-9.-]{0,14}", fullmatch=True)),
        draw(st.none() | st.integers(0, 255)),
    )


@given(_mrls(), st.booleans())
def test_what_is_written_is_read(mrl: Mrl, way_in: bool) -> None:
    """Every MRL that can be written is read back as it was."""
    assert parse(_write(mrl, way_in=way_in)) == mrl


@given(st.text() | st.text("udprt:/@[]?&=%.0123456789abcdef", min_size=6).map("udp://".__add__))
def test_any_text_is_an_mrl_or_a_value_error(text: str) -> None:
    """No text does anything else than be read, to values that are in range, or be declined."""
    try:
        mrl = parse(text)
    except ValueError:
        return
    assert mrl.scheme in ("udp", "rtp")
    assert 1 <= mrl.port <= 65535
    assert mrl.ttl is None or 0 <= mrl.ttl <= 255
    assert not set(mrl.source + mrl.host + mrl.iface) & set("@/ \n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("udp://10.0.0.7:5004?ttl=3", Mrl("udp", "", "10.0.0.7", 5004, ttl=3)),
        ("rtp://239.2.2.2?iface=lo&ttl=0", Mrl("rtp", "", "239.2.2.2", 5004, "lo", 0)),
        ("udp://[FF15::0:7]:9", Mrl("udp", "", "ff15::7", 9)),
        ("udp://[fe80::1%eth0]:9", Mrl("udp", "", "fe80::1%eth0", 9)),
    ],
)
def test_ways_out_are_hosts_and_groups(text: str, expected: Mrl) -> None:
    """An address is written as everyone writes it, so that two ways to one place are one."""
    assert parse_output(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "239.2.2.2:5004",
        "udp://@:5004",
        "udp://screen.example:5004",
        "udp://0.0.0.0:5004",
        "udp://[::]:5004",
        "udp://255.255.255.255:5004",
        "udp://10.0.0.5@239.2.2.2:5004",
        "udp://10.0.0.7:5004?iface=eth0",
        "udp://10.0.0.7:5004?ttl=0",
    ],
)
def test_what_is_no_way_out_is_declined(text: str) -> None:
    """A way out is one address; no name, no broadcast, and options that mean something there."""
    with pytest.raises(ValueError, match=text.partition("?")[0].replace("[", r"\[")):
        parse_output(text)
