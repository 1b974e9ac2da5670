"""A real browser for the pages, and what it can measure on them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
_LOW_CONTRASTS = Path(__file__).with_name("low_contrasts.js")
WAIT_SECONDS = 90  # on a machine that does other things too


@contextmanager
def open_browser() -> Generator[Any]:
    """Start a headless Chromium with a profile of its own; skip the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1280,1100",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def look(browser: Any, *, night: bool = False, width: int = 1280, height: int = 1100) -> None:
    """Give the browser's window a size (a phone's if it is narrow) and a time of day."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if night else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def low_contrasts(browser: Any) -> list[str]:
    """Name the texts on a page whose contrast to what is behind them is under 4.5 : 1."""
    num_checked, found = browser.execute_script(_LOW_CONTRASTS.read_text("utf-8"))
    assert num_checked > 5, "there is nothing to read on the page"
    return found


def wait_for(what: Callable[[], Any]) -> Any:
    """Return what is found once it is there, and its own complaint if it never is."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            found = what()
            assert found
            return found
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
