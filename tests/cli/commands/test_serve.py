"""`r2t serve`: the asker behind the page, the page's answers, and the page in a real browser."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from html import unescape
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from barcode_videos import Recipe, write_video
from browsers import look, low_contrasts, wait_for
from demo_run import make_demo_run, presence_rule

from r2t.cli.answers.video_asker import VideoAsker
from r2t.cli.pages.answer import Answer, answers_html, answers_json
from r2t.extract.clip.clip import FrozenClip
from r2t.store.errors import AnnotationError, VideoError
from r2t.train.grounding.grounder import Grounder
from r2t.train.model.decode import Grounding


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return FrozenClip.load("r2t-demo", layers=2, device="cpu")


@pytest.fixture(scope="module")
def run(clip: FrozenClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_run(tmp_path_factory.mktemp("serve"), clip.spec(4.0))


def test_a_video_is_encoded_once_and_forgotten_in_turn(
    clip: FrozenClip, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [write_video(tmp_path / name, Recipe()) for name in "abc"]
    encoded: list[int] = []
    encode = clip.encode_frames
    monkeypatch.setattr(clip, "encode_frames", lambda p: encoded.append(len(p)) or encode(p))
    grounder = Grounder.load(run)
    asker = VideoAsker(grounder, clip, frame_rate_fps=4.0, max_videos=2, max_seconds=6)
    heard: list[tuple[float, float]] = []
    asker.prepare(videos[0], lambda done, total: heard.append((done, total)))
    first, remarks = asker.ask(videos[0], "a ball")
    assert heard[-1] == (20, 20)
    assert remarks == []
    assert encoded == [20]
    whole = grounder(clip.encode_video(videos[0], 4.0), clip.encode_query("a ball"))
    np.testing.assert_allclose(first.moments, whole.moments, atol=1e-4)
    encoded.clear()
    _, remarks = asker.ask(videos[0], "a ball and " * 60)
    assert "cut off" in remarks[0]
    for video in (videos[1], videos[2], videos[1]):
        asker.ask(video, "a ball")
    assert encoded == [20, 20]
    asker.ask(videos[0], "a ball")  # only two are kept
    assert encoded == [20, 20, 20]
    asker.forget(videos[0])
    asker.ask(videos[0], "a ball")
    assert encoded == [20, 20, 20, 20]
    with pytest.raises(AnnotationError, match="sentence is empty"):
        asker.ask(videos[0], " ")
    for windows in (8, "off"):
        divided = VideoAsker(
            grounder, clip, frame_rate_fps=4.0, max_videos=2, max_seconds=6, windows=windows
        )
        found, _ = divided.ask(videos[0], "a ball")
        expected = grounder.ask(clip, videos[0], "a ball", windows=windows)
        np.testing.assert_allclose(found.saliency, expected.saliency, atol=1e-6)
        np.testing.assert_allclose(found.moments, expected.moments, atol=1e-4)
        assert np.allclose(found.saliency, whole.saliency, atol=1e-6) == (windows == "off")
    strict = VideoAsker(grounder, clip, frame_rate_fps=4.0, max_videos=2, max_seconds=4)
    with pytest.raises(VideoError, match="the limit here is"):
        strict.prepare(videos[0])


def test_what_people_type_is_text_on_the_page() -> None:
    grounding = Grounding(
        np.array([[1.0, 2.0, 0.9], [3.0, 4.0, 0.0]]), np.zeros(4, np.float32), 1.0, 4.0, 0.0
    )
    html = answers_html('"><b>film', [Answer("<script>alert(1)</script>", grounding, 0.1)], top=5)
    assert "<script" not in html
    assert "<b>film" not in html
    [data] = re.findall('data-r2t-query="([^"]*)"', html)
    entry = json.loads(unescape(data))
    assert entry["query"] == "<script>alert(1)</script>"
    assert entry["moments"] == [[1, 2, 0.9]]  # what has no score is not shown
    [link] = re.findall('href="data:application/x-subrip;base64,([^"]*)"', html)
    assert "00:00:01,000 --> 00:00:02,000" in base64.b64decode(link).decode()
    assert answers_html("film", [], top=5) == ""
    for threshold, denied in ((0.5, True), (-0.5, False)):
        answer = Answer("a ball", grounding, 0.1, presence_rule(threshold))
        html = answers_html("film", [answer], top=5)
        assert (
            "probably not in this video (learned cosine of the 3 best frames 0.000 &lt; 0.500)"
            in html
        ) is denied
        assert answers_json("film", [answer])["answers"][0]["presence"] == {
            "score": 0.0,
            "threshold": threshold,
            "probably_absent": denied,
        }


@pytest.fixture(scope="module")
def address(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Serve the run from a process of its own; at the end nothing of it may be left."""
    pytest.importorskip("gradio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("private")
    options = ("--checkpoint", str(run), "--port", str(port), "--device", "cpu", "--offline")
    process = subprocess.Popen(
        [sys.executable, "-m", "r2t.cli", "serve", *options, "--max-upload", "100kB"],
        stderr=subprocess.PIPE,
        text=True,
        # A proxy that nobody serves: this machine's own page must not be asked for through it.
        env={**os.environ, "TMPDIR": str(folder), "HTTP_PROXY": "http://127.0.0.1:9"},
    )
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        else:
            pytest.fail(said)
        assert len(list(folder.glob("r2t-serve-*"))) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, process.stderr.read()
        assert list(folder.glob("r2t-serve-*")) == []
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_start_that_is_broken_off_leaves_nothing(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    with subprocess.Popen(
        [sys.executable, "-m", "r2t.cli", "serve", "--checkpoint", str(run), "--device", "cpu"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        wait_for(lambda: list(tmp_path.glob("r2t-serve-*")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 128 + signal.SIGTERM
    assert list(tmp_path.glob("r2t-serve-*")) == []


def test_a_person_asks_a_video_in_the_browser(address: str, browser: Any, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a film", Recipe())

    def find(selector: str) -> Any:
        return browser.find_element("css selector", selector)

    def find_all(selector: str) -> list[Any]:
        return browser.find_elements("css selector", selector)

    def ask(sentence: str) -> None:
        find("#r2t-query textarea, #r2t-query input").send_keys(sentence)
        find("#r2t-find").click()

    browser.get(address)
    wait_for(lambda: find("#r2t-video input[type=file]")).send_keys(str(video))
    wait_for(lambda: "is ready" in find("#r2t-status").text)
    assert "20 frames of 5 s" in find("#r2t-status").text

    ask(" ")
    wait_for(lambda: "sentence is empty" in find("body").text)
    ask("a <b>ball</b>")
    wait_for(lambda: len(find_all(".r2t-answer")) == 1)
    ask("a cat")
    wait_for(lambda: len(find_all(".r2t-answer")) == 2)
    assert [each.text for each in find_all(".r2t-answer h3")] == ["a cat", "a <b>ball</b>"]

    link = find(".r2t-download").get_attribute("href")
    saved = json.loads(base64.b64decode(link.partition("base64,")[2]))
    assert [each["query"] for each in saved["answers"]] == ["a <b>ball</b>", "a cat"]

    wait_for(lambda: len(find_all(".r2t-answer .timeline")) == 2)
    moment = find_all(".r2t-answer")[0].find_elements("css selector", "button.block")[-1]
    found = re.fullmatch(
        r"play found moment \d, score \d\.\d\d, 0:0(\d\.\d) \u2013 0:0\d\.\d",
        moment.get_attribute("aria-label"),
    )
    assert found is not None
    start = float(found[1])
    moment.click()
    position = "return document.querySelector('#r2t-video video').currentTime"
    wait_for(lambda: start <= browser.execute_script(position) <= start + 2)
    find(".r2t-answer .saliency").click()  # in its middle
    wait_for(lambda: 2.4 <= browser.execute_script(position) <= 4.5)

    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    local = (address, "data:", "blob:", "chrome:")
    assert [url for url in requests if not url.startswith(local)] == []


def test_the_page_can_be_read_and_used_by_day_by_night_and_on_a_phone(
    address: str, browser: Any, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "a film", Recipe())
    downloads = tmp_path / "downloads"
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
    )

    def find(selector: str) -> Any:
        return browser.find_element("css selector", selector)

    look(browser)
    browser.get(address)
    wait_for(lambda: find("#r2t-video input[type=file]")).send_keys(str(video))
    wait_for(lambda: "is ready" in find("#r2t-status").text)
    find("#r2t-query textarea, #r2t-query input").send_keys("a ball")
    find("#r2t-find").click()
    wait_for(lambda: find(".r2t-answer .timeline"))
    for night in (False, True):
        for width, height in ((1280, 900), (390, 844), (844, 390)):
            look(browser, night=night, width=width, height=height)
            wait_for(lambda: low_contrasts(browser) == [])
            last = browser.find_elements("css selector", ".timeline button.block")[-1]
            browser.execute_script("arguments[0].scrollIntoView({block: 'end'})", last)
            last.click()
            top, bottom, window = browser.execute_script(
                "const box = document.querySelector('#r2t-video video').getBoundingClientRect();"
                "return [box.top, box.bottom, innerHeight]"
            )
            assert 0 <= top < bottom <= window
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width

    look(browser)
    find(".timeline .action").click()
    clip = wait_for(lambda: next(downloads.glob("*.mp4")))
    assert clip.name.startswith("a film 0.0")
    label = find(".timeline button.block").get_attribute("aria-label")
    start, end = (float(each) for each in re.findall(r"0:0(\d\.\d)", label))
    with av.open(str(clip)) as container:
        assert container.duration == pytest.approx(1e6 * (end - start), abs=2e5)


def test_two_tabs_with_one_video_do_not_disturb_each_other(
    address: str, browser: Any, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "one film", Recipe())
    first = browser.current_window_handle

    def find(selector: str) -> Any:
        return browser.find_element("css selector", selector)

    def open_page() -> None:
        browser.get(address)
        wait_for(lambda: find("#r2t-video input[type=file]")).send_keys(str(video))
        wait_for(lambda: "is ready" in find("#r2t-status").text)

    open_page()
    browser.switch_to.new_window("tab")
    open_page()
    find("#r2t-video button[aria-label=Clear]").click()
    wait_for(lambda: "Drop a video" in find("#r2t-status").text)
    browser.close()
    browser.switch_to.window(first)
    find("#r2t-query textarea, #r2t-query input").send_keys("a cat")
    find("#r2t-find").click()
    wait_for(lambda: browser.find_elements("css selector", ".r2t-answer"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no video at all" * 9, "cannot be decoded"), (b"\0" * 200_000, "maximum allowed size")],
)
def test_a_bad_upload_is_told_on_the_page(
    content: bytes, message: str, address: str, browser: Any, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(content)
    browser.get(address)
    upload = wait_for(lambda: browser.find_element("css selector", "#r2t-video input[type=file]"))
    upload.send_keys(str(bad))
    wait_for(lambda: message in browser.find_element("css selector", "body").text)
