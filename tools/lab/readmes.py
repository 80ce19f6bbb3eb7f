"""What tools write into the READMEs, each between two lines of its own."""

from pathlib import Path

from relaylib.errors import SetupError


def between(text: str, mark: str, new: str, name: str) -> str:
    """Return the text of a file of that name with something new between its two lines `mark`.

    Raises:
        SetupError: it does not have two of them.
    """
    parts = text.split(mark)
    if len(parts) != 3:
        raise SetupError(f"{name}: what is new goes between two lines {mark.strip()}")
    return mark.join((parts[0], f"\n{new}\n", parts[2]))


def publish(root: Path, mark: str, new: str) -> None:
    """Put something new there in every README, or in none.

    Raises:
        SetupError: one of them does not have two such lines.
    """
    pages = sorted(root.glob("README*.md"))
    texts = [between(page.read_text(), mark, new, str(page)) for page in pages]
    for page, text in zip(pages, texts, strict=True):
        page.write_text(text)
