"""The command line, and what becomes of it."""

import dataclasses
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaylib.config import Config, parse
from relaylib.net.mrl import Mrl, parse_output


def test_nothing_asked_for_is_the_default() -> None:
    """With no words every field has its documented default."""
    config = parse([])
    assert config == Config()
    assert (config.host, config.port, config.ingest_port) == ("0.0.0.0", 9000, None)
    assert (config.coalesce, config.segmentation, config.source_timeout) == (None, True, 2.0)


def test_the_stream_goes_to_all_that_are_named() -> None:
    """--to may be repeated; a group may be sent to through several interfaces."""
    words = ["udp://10.0.0.7:9", "udp://239.2.2.2:9?iface=a&ttl=2", "udp://239.2.2.2:9?iface=b"]
    outputs = parse([word for each in words for word in ("--to", each)]).to
    assert outputs == tuple(map(parse_output, words))


def test_a_configuration_does_not_change() -> None:
    """Nobody can alter the configuration once it is made."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse([]).port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("::", "host", "::"),
        ("[::1]", "host", "::1"),
        ("[fe80::1%lo]", "host", "fe80::1%lo"),
        ("localhost 7000", "port", 7000),
        ("localhost 0", "port", 0),
        ("--ingest-port 5000", "ingest_port", 5000),
        ("--ingest-port=65535", "ingest_port", 65535),
        ("--ingest rtp://@[ff15::1]?iface=eth0", "ingest", Mrl("rtp", "", "ff15::1", 5004, "eth0")),
        ("--coalesce auto", "coalesce", None),
        ("--coalesce 0", "coalesce", 0.0),
        ("--coalesce 2.5", "coalesce", 0.0025),
        ("--coalesce 100", "coalesce", 0.1),
        ("--no-segmentation", "segmentation", False),
        ("--source-timeout 0.5", "source_timeout", 0.5),
        ("--failover-errors 0", "failover_errors", 0),
        (
            "--prefer 10.0.0.1 --prefer 10.1.0.0/16",
            "prefer",
            (ip_network("10.0.0.1"), ip_network("10.1.0.0/16")),
        ),
        ("--max-egress 900M", "max_egress", 900e6),
        ("--max-egress 1.5G", "max_egress", 1.5e9),
        ("--max-egress 64k", "max_egress", 64e3),
        ("--max-egress 200000000", "max_egress", 200e6),
        ("--record-faults /tmp", "record_faults", "/tmp"),
        ("--record-mib 64", "record_mib", 64),
        ("--timeshift 60", "timeshift", 60.0),
        ("--timeshift 0", "timeshift", 0.0),
        ("--timeshift-mib 64", "timeshift_mib", 64),
        ("--start keyframe", "start", "keyframe"),
        ("--no-inspect", "inspect", False),
        ("--http-host TV.example.", "http_host", ("tv.example",)),
        ("--http-coalesce 100", "http_coalesce", 0.1),
        ("--max-http-clients 5", "max_http_clients", 5),
        ("--max-http-clients-per-ip 5", "max_http_clients_per_ip", 5),
        ("--cors *", "cors", "*"),
        ("--cors https://a.example:8443", "cors", "https://a.example:8443"),
        ("--log-format json", "log_format", "json"),
        ("--log-level debug", "log_level", "debug"),
    ],
)
def test_each_option_has_its_field(words: str, field: str, value: object) -> None:
    """An option changes its own field, in seconds where it is a time, and no other."""
    config = parse(words.split())
    assert getattr(config, field) == value
    if words.startswith("-"):
        assert dataclasses.replace(Config(), **{field: value}) == config  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words",
    [
        "h 65536",
        "h -1",
        "h +1",
        "h 1e3",
        "h " + "9" * 5000,
        "h \u0665\u0660\u0660\u0664",
        "--ingest-port 5000 --ingest udp://@:5000",
        "--ingest 5004",
        "--ingest udp://@239.1.1.1?ttl=4",
        "--ingest udp://@192.0.2.1?iface=eth0",
        "--ingest udp://10.0.0.5@232.1.1.1 --allow-source 10.0.0.0/8",
        "--coalesce 100.1",
        "--coalesce inf",
        "--coalesce nan",
        "--coalesce=-1",
        "--coalesce ''",
        "--source-timeout 0.05",
        "--failover-errors -1",
        "--failover-errors 1.5",
        "--prefer encoder",
        "--source-timeout nan",
        "--log-level error!",
        "--http ''",
        "--http 65536",
        "--http localhost",
        "--http ::1:8080",
        "--http [::1]",
        "--http-host a/b",
        "--http-coalesce 5",
        "--cors example.org",
        "--cors https://a.example/path",
        "--trusted-proxy proxy",
        "--max-egress ''",
        "--max-egress M",
        "--max-egress 0",
        "--max-egress 5X",
        "--max-egress 5MM",
        "--max-egress nan",
        "--max-egress -1M",
        "--max-egress 1001G",
        "--record-faults /nonexistent",
        "--record-faults /etc/hostname",
        "--record-faults ''",
        "--record-faults /tmp --no-inspect",
        "--record-mib 0",
        "--timeshift -1",
        "--timeshift nan",
        "--timeshift-mib 0",
        "--timeshift-mib 1.5",
        "--start now",
        "--start keyframe --no-inspect",
        "--unknown",
        "@/nonexistent/file",
    ],
)
def test_what_is_wrong_is_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every wrong word ends the program with status 2 and a single line."""
    assert_refused(words.split(), capsys)


def test_a_source_in_the_mrl_alone_may_send() -> None:
    """What the kernel does for a group, the list of sources does for an address of our own."""
    config = parse(["--ingest", "udp://10.0.0.5@:5004"])
    assert config.allow_source == (ip_network("10.0.0.5"),)


def assert_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Check that these words are refused in one line; return it."""
    with pytest.raises(SystemExit) as end:
        parse(words)
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("relay.py: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("words", "http", "timeshift"),
    [
        ("", None, 0.0),
        ("--http 8080", ("0.0.0.0", 8080), 60.0),
        ("--http auto", ("0.0.0.0", None), 60.0),
        ("127.0.0.1 --http 8080", ("127.0.0.1", 8080), 60.0),
        ("--http localhost:8080 --timeshift 5", ("localhost", 8080), 5.0),
        ("--http [::1]:0 --timeshift 0", ("::1", 0), 0.0),
        ("--timeshift 9", None, 9.0),
    ],
)
def test_http_keeps_a_minute(words: str, http: tuple[str, int] | None, timeshift: float) -> None:
    """With HTTP there is a history of 60 s, unless somebody says otherwise."""
    config = parse(words.split())
    assert (config.http, config.timeshift) == (http, timeshift)


# --- files


def test_options_may_stand_in_a_file(tmp_path: Path) -> None:
    """An @file holds words as a shell would read them, with comments and blank lines."""
    file = tmp_path / "relay.conf"
    file.write_text("# the lab\n127.0.0.1 7000\n\n--coalesce 5  # ms\n--log-format 'json'\n")
    config = parse([f"@{file}", "--log-level", "debug"])
    assert (config.host, config.port, config.coalesce) == ("127.0.0.1", 7000, 0.005)
    assert (config.log_format, config.log_level) == ("json", "debug")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\n--coalesce 'x\n", 'FILE, line 2: cannot read "--coalesce \'x": No closing quotation'),
        (b"# \xff\xfe\x00", "FILE is not text"),
        (b"\n\n\n@FILE\n", "FILE, line 4: FILE includes itself"),
        (b"@FILE2\n", "FILE, line 1: cannot read FILE2: No such file"),
        (b"::\n--coalesce x\n", "FILE, line 2: argument --coalesce: not auto, nor"),
        (b"--max-clients 5 --coalesce\nx --max-clients 6", "FILE, line 2: argument --coalesce: "),
        (b"--allow any\n--idle-timeout\n", "FILE, line 2: argument --idle-timeout: expected one"),
        (b"1 2 3\n--nonsense --allow any", "FILE, line 1: argument HOST: '1' looks like a port"),
        (b"--allow any\n--nonsense\n\n", "FILE, line 2: unrecognized arguments: --nonsense"),
        (b"--to udp://[::1]:9\n--to udp://127.0.0.1:9\n--to rtp://[0::1]:9?ttl=2\n",
         "FILE, line 3: argument --to: named twice: [::1]:9; once is enough"),
        (b"\n--to udp://screen:9", "FILE, line 2: argument --to: not the address of a host"),
        (b"--log-level info\n--log-level loud\n", "FILE, line 2: argument --log-level: invalid"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line(
    tmp_path: Path, content: bytes, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong in a file is told with the file's name and the line's number."""
    file = tmp_path / "relay.conf"
    file.write_bytes(content.replace(b"FILE", str(file).encode()))
    said = assert_refused(["--allow", "private", f"@{file}", "--allow", "any"], capsys)
    assert said.startswith("relay.py: " + named.replace("FILE", str(file)))


def test_a_wrong_word_beside_a_file_is_not_looked_for_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error on the command line names no file."""
    file = tmp_path / "relay.conf"
    file.write_text("--max-clients 5\n")
    said = assert_refused([f"@{file}", "--max-clients", "none"], capsys)
    assert said.startswith("relay.py: argument --max-clients: not a number")


def test_a_file_may_name_another(tmp_path: Path) -> None:
    """What stands in a file that a file names counts as if it stood there."""
    (tmp_path / "more.conf").write_text("--coalesce 7\n")
    file = tmp_path / "relay.conf"
    file.write_text(f"--coalesce 5\n@{tmp_path}/more.conf\n--idle-timeout 9\n")
    config = parse([f"@{file}"])
    assert (config.coalesce, config.idle_timeout) == (0.007, 9.0)


def doubling(folder: Path) -> str:
    """Twenty files, each of which names the next one twice: a million times the last one."""
    for number in range(20):
        (folder / str(number)).write_text(f"@{folder}/{number + 1}\n" * 2)
    (folder / "20").touch()
    return "more than 64 files"


def chained(folder: Path) -> str:
    """More files than calls of a function may stand in one another, each naming the next one."""
    for number in range(2000):
        (folder / str(number)).write_text(f"@{folder}/{number + 1}\n")
    return "/63, line 1: more than 64 files"


def endless(folder: Path) -> str:
    """A file that has no end."""
    (folder / "0").symlink_to("/dev/zero")
    return "more than 262144 letters"


def many_words(folder: Path) -> str:
    """A file of very many right words, and one that is wrong at their end."""
    (folder / "0").write_text("--allow any\n" * 2049)
    return "0, line 2049: more than 4096 words"


def many_letters(folder: Path) -> str:
    """Files none of which is too long alone."""
    (folder / "0").write_text(f"@{folder}/1\n" * 9)
    (folder / "1").write_text("# comment\n" * 4000)
    return "more than 262144 letters"


@pytest.mark.parametrize("make", [doubling, chained, endless, many_words, many_letters])
def test_files_without_end_are_one_line(
    tmp_path: Path, make: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that name one another, or that do not end, are declined after some of them."""
    said = make(tmp_path)
    assert said in assert_refused([f"@{tmp_path}/0"], capsys)


def test_a_wrong_word_among_thousands_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is parsed again to find the place is a few prefixes, not one for each word."""
    (tmp_path / "0").write_text("--allow any\n" * 900 + "--allow nobody\n")
    assert "/0, line 901: argument --allow" in assert_refused([f"@{tmp_path}/0"], capsys)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
        max_size=4,
    )
)
def test_any_words_are_a_configuration_or_a_refusal(words: list[str]) -> None:
    """Whatever the words, they make a configuration or end the program; nothing else escapes."""
    try:
        assert isinstance(parse(words), Config)
    except SystemExit as end:
        assert end.code in (0, 2)  # noqa: PT017


@pytest.mark.parametrize(
    "words",
    [
        ("--max-clients", "1.9"),
        ("--max-clients", "1000001"),
        ("--max-clients", "000000019999999"),
        ("9000",),
        ("9000", "9001"),
        ("--max-clients", "9" * 5000),
        ("--allow", "::ffff:10.0.0.0/104"),
        ("--allow", "fe80::1%lo/64"),
    ],
)
def test_what_could_only_be_misunderstood_is_refused(words: tuple[str, str]) -> None:
    """Half a connection, a port as HOST, and networks that no peer could match, are errors."""
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2


def test_a_byte_order_mark_is_no_part_of_an_option(tmp_path: Path) -> None:
    """A file saved by an editor that marks UTF-8 is read like any other."""
    options = tmp_path / "relay.conf"
    options.write_bytes(b"\xef\xbb\xbf--max-clients 5\n")
    assert parse([f"@{options}"]).max_clients == 5
