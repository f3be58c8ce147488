"""The pictures of docs/report.md and docs/monitoring.md: the report page and TensorBoard as they look.

    python benchmarks/pictures.py report logs/demo/search         # report_1400.png, report_400.png
    python benchmarks/pictures.py tensorboard logs/demo/reasoner  # tensorboard.png

They are taken by Chromium or Chrome, which Playwright drives. `--to` gives another folder than docs/.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent.parent / "docs"
BROWSERS = ("chromium", "google-chrome", "chromium-browser")
WIDTHS = {1400: 900, 400: 800}  # of the page -> height of its picture
PATIENCE = 120_000  # milliseconds, of a machine that has much to do


@contextmanager
def page_of(width: int, height: int) -> Iterator[Any]:
    """An empty page of a browser."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit("no Chromium or Chrome is installed, which takes the pictures")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def report(run: Path, to: Path) -> None:
    """The page of a prediction run, as it opens on a wide and on a narrow screen."""
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "report.html"
        command = [sys.executable, "-m", "lightning_ltts", "report", str(run), "-o", str(html)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for width, height in WIDTHS.items():
            with page_of(width, height) as page:
                page.goto(f"file://{html}")
                page.wait_for_selector("section:visible .main-svg")
                page.screenshot(path=str(to / f"report_{width}.png"), scale="css")


def tensorboard(logs: Path, to: Path) -> None:
    """The board of runs: its charts of training and validation."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    options = ["--logdir", str(logs), "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    command = [sys.executable, "-m", "tensorboard.main", *options, "--load_fast=false"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_runs(address)
        with page_of(1400, 900) as page:
            page.goto(f"{address}/?tagFilter=train%7Cval#timeseries")
            page.wait_for_selector("scalar-card svg path, scalar-card canvas")
            page.get_by_text("Settings", exact=True).first.click()  # which closes them
            page.wait_for_timeout(5_000)  # cards are drawn one after the other
            page.screenshot(path=str(to / "tensorboard.png"), scale="css")
    finally:
        server.terminate()
        server.wait(10)


def wait_for_runs(address: str) -> None:
    """Returns when the server has read a run."""
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/data/runs") as answer:
                if answer.read().strip() != b"[]":
                    return
        except OSError:  # it is still starting
            pass
        time.sleep(0.5)
    sys.exit("TensorBoard has found no run")


def main() -> None:
    """Takes the pictures that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["report", "tensorboard"])
    parser.add_argument("folder", type=Path, help="of a prediction run, or of any logs")
    parser.add_argument("--to", type=Path, default=DOCS)
    options = parser.parse_args()
    {"report": report, "tensorboard": tensorboard}[options.what](options.folder, options.to)


if __name__ == "__main__":
    main()
