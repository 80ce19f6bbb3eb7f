"""What is made of the options: man pages, completions, tables."""

import subprocess
from pathlib import Path

import pytest

from tools import documents
from tools.lab.client import PseudoTerminal
from tools.lab.process import ROOT, NeedError, need

MADE = {str(path.relative_to(ROOT)): text for path, text in documents.documents()}


@pytest.mark.parametrize("name", MADE)
def test_documents_follow_the_options(name: str) -> None:
    """Each is what the options make of it; where it is not: `make docs`."""
    assert (ROOT / name).read_text() == MADE[name], "make docs"


@pytest.mark.parametrize("program", documents.PROGRAMS)
def test_a_man_page_is_clean(program: str) -> None:
    """mandoc has nothing to warn of."""
    need("mandoc")
    words = ("mandoc", "-Tlint", "-Wwarning", f"man/{program}.1")
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == ""


TYPED = [
    ("relay --rec", ["--record-faults", "--record-mib"]),
    ("relay --start ", ["keyframe", "live"]),
    ("relay --log-level w", ["warning"]),
    ("relay-client 192.0.2.1 9000 5004 --vl", ["--vlc"]),
]
"""What somebody types before the Tab key, and what is offered."""

SHELLS = {
    "bash": (
        ("bash", "--norc", "--noprofile", "-i"),
        ". /usr/share/bash-completion/bash_completion; bind TAB:possible-completions",
    ),
    "zsh": (
        ("zsh", "-f", "-i"),
        "fpath=(contrib/completion $fpath); autoload compinit; compinit -u -D; "
        "bindkey '^I' list-choices",
    ),
}
"""Shells that complete on terminals alone, and what lets them list what they offer."""


@pytest.mark.parametrize(("line", "offered"), TYPED)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(
    shell: str, line: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bash and zsh find what completes a command, and offer options and their choices."""
    need(shell)
    if shell == "bash" and not Path("/usr/share/bash-completion/bash_completion").exists():
        raise NeedError("needs bash-completion")
    (tmp_path / "completions").symlink_to(ROOT / "contrib" / "completion")
    monkeypatch.setenv("BASH_COMPLETION_USER_DIR", str(tmp_path))
    words, prepare = SHELLS[shell]
    with PseudoTerminal(*words) as terminal:
        terminal.type(f"{prepare}; echo is re''ady\n")
        terminal.contains("is ready")
        terminal.type(f"{line}\t")
        for word in offered:
            terminal.contains(word)


@pytest.mark.parametrize(("line", "offered"), TYPED)
def test_fish_completes(line: str, offered: list[str]) -> None:
    """Fish offers the same."""
    need("fish")
    program = line.split(maxsplit=1)[0]
    script = f"source contrib/completion/{program}.fish; complete -C '{line}'"
    words = ("fish", "--no-config", "-c", script)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    assert sorted(each.split("\t")[0] for each in done.stdout.splitlines()) == offered
