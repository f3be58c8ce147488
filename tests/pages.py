"""The pages of the documentation, and what tests read out of them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("[bdel]*/README.md")])


@dataclass(frozen=True)
class Block:
    """A block of code in a page."""

    kind: str  # its language; "shell" for an indented block
    text: str
    before: str  # the line of text before it
    section: str  # the heading of level 2 above it


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, fenced or indented by four spaces, in order."""
    found: list[Block] = []
    section, before, kind, lines, in_list = "", "", "", [], False
    for line in [*page.read_text(encoding="utf-8").splitlines(), "end"]:
        fence = line.startswith("```")
        if kind == "shell" and line.strip() and not line.startswith("    "):
            found.append(Block(kind, "\n".join(lines).strip(), before, section))
            kind, lines = "", []
        if kind and kind != "shell":  # inside of a fence
            if fence:
                found.append(Block(kind, "\n".join(lines), before, section))
                kind, lines = "", []
            else:
                lines.append(line)
        elif fence:
            kind = line.removeprefix("```").strip() or "text"
        elif line.startswith("    ") and not in_list:
            kind = "shell"
            lines.append(line[4:])
        elif not line.strip():
            in_list = False
        else:
            before, in_list = line, in_list or bool(re.match(r"(\d+\.|[*-]) ", line))
            section = line.removeprefix("## ") if line.startswith("## ") else section
    return found


def commands_of(text: str) -> list[str]:
    """The commands of a block for the shell: joined over `\\`, cut at `&&`, without comments."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [re.split(r"\s+#", line)[0].strip() for line in joined.splitlines()]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip()]


def text_commands(page: Path) -> list[str]:
    """The `ltts` commands that stand within a line of text."""
    text = page.read_text(encoding="utf-8")
    return [command for command in re.findall(r"`(ltts [^`]+)`", text) if "..." not in command]


def anchors_of(page: Path) -> set[str]:
    """What links may name after `#`: every heading as GitHub writes it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in words}
