from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.errors import RunError
from reports.html import write_report

FETCHING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "source": ("src", "srcset"),
    "base": ("href",),
    "form": ("action",),
}


class Page(HTMLParser):
    """Tags, visible text and scripts of a page, by a parser that knows nothing of our template."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag if tag in {"script", "style"} else self._within
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within == "style":
            self.styles.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page_text(session_folder: Path) -> str:
    return write_report(session_folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(page_text: str) -> Page:
    return Page(page_text)


def test_the_report_is_one_file_below_3_mb(session_folder: Path, page_text: str) -> None:
    assert 1_000_000 < (session_folder / "report.html").stat().st_size < 3_000_000
    assert not list(session_folder.glob("*.tmp"))


def test_no_tag_or_style_fetches_anything(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in FETCHING.get(tag, ()):
            assert not attributes.get(name), f"<{tag} {name}={attributes[name]!r}>"
    assert not re.search(r"@import|url\(", " ".join(page.styles))
    assert all(str(a.get("href")).startswith("#") for tag, a in page.tags if tag == "a")


def test_the_policy_lets_only_our_own_scripts_run_and_nothing_be_fetched(page: Page) -> None:
    (policy,) = (a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src ")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "http" not in policy
    assert len(page.scripts) == 3
    for script in page.scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy


def test_the_verdict_comes_first(page: Page) -> None:
    text = page.text
    places = [text.index(word) for word in ("Pass", "emulated", "Duration", "Plots", "Orders against delivery")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "words",
    [
        "1.800 kWh",  # charged: 6 kW for 18 min
        "1.950 kWh",  # discharged: 7.8 kW for 15 min
        "± 0.004 kWh (k = 2)",
        "van stands alone: it disagrees with analyzer and agrees with nobody else.",
        "order-1 load decrease 10.0 15.0 -8 000 -7 800 -2 000.0 -1 942.2 97.1",
        "pack temperature pack_temperature_c <= 45 31.00 14.00 °C warn",
        "-0.413250 €",
        "0.202870 €",
        "there is no positioning device in the station",
        "the vehicle was not asked",
        "c0c0c0c0",
        "signature of the station emulated holds",
        "signature of the witness van holds",
        "hash of the samples against run.sqlite holds",
        "--trust trust.json",
        "did:key:zDnaeSynthetic",
        "1 of 4 set-points were not accepted as asked.",
        "Not a safety device.",
    ],
)
def test_the_report_says(page: Page, words: str) -> None:
    assert words in page.text.replace("\u202f", " ").replace("\u2212", "-")


def test_tables_have_captions_and_scoped_headings(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") > 8
    assert all(a.get("scope") in {"col", "row"} for tag, a in page.tags if tag == "th")
    assert dict(page.tags)["html"]["lang"] == "en"


def test_every_plot_of_the_session_is_there(page: Page) -> None:
    titles = [a["aria-label"] for tag, a in page.tags if tag == "figure"]
    assert titles == [
        "Power ordered, set and measured (positive charges the vehicle)",
        "Difference between the witnesses",
        "State of charge",
        "Pack voltage",
        "Pack temperature",
    ]
    assert page.scripts[1].count('"Figure"') == 5
    for name in ("ordered", "set-point in force", "charger (AC)", "analyzer (DC)", "warning above", "sensor T3"):
        assert f'"value":"{name}"' in page.scripts[1]
    assert '"value":"sensor T4"' not in page.scripts[1]  # it never gave a value


def test_a_hostile_device_name_stays_a_name(hostile_folder: Path) -> None:
    text = write_report(hostile_folder).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script>alert(1)</script>" in page.text  # shown, as text
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert len(page.scripts) == 3
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not any("<script>alert" in script or "<img src=x" in script for script in page.scripts)
    assert '"value":"&lt;script&gt;alert(1)' in page.scripts[1]
    labels = re.findall(r'"value":"(&lt;script[^"]*)', page.scripts[1])
    assert labels
    assert not any("$$" in label for label in labels)  # Bokeh would ask the network for MathJax


def test_an_aborted_run_without_certificate_says_why_in_each_place(aborted_folder: Path) -> None:
    page = Page(write_report(aborted_folder).read_text(encoding="utf-8"))
    assert "Tripped by a limit pack temperature above 45 °C" in page.text
    assert "no certificate" in page.text
    assert "Not available: the run made no usage record." in page.text
    assert "There is no certificate: the run folder has no certificate.json." in page.text
    assert page.scripts[1].count('"Figure"') == 5


def test_a_run_that_was_killed_renders_as_unfinished(session_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / session_folder.name
    shutil.copytree(session_folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("verdict", "closed_wall_utc", "reason"):
        del manifest[key]
    manifest["state"] = "open"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "Unfinished" in page.text
    assert "was not closed (its process died or was killed); it holds 3601 cycles up to 3600 s" in page.text


def test_a_changed_record_is_shown_as_what_it_is(session_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / session_folder.name
    shutil.copytree(session_folder, folder)
    path = folder / "records" / "usage_record.json"
    path.write_bytes(path.read_bytes().replace(b'"plan":"v2g_session"', b'"plan":"v2g_sessiom"'))
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "signature of the station emulated does not hold" in page.text
    assert "signature of the witness van holds" in page.text
    path.write_bytes(b"\xff{")
    (folder / "certificate.json").write_text("[]")
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "Not available: usage_record.json is not JSON" in page.text
    assert "There is no certificate: certificate.json is not a JSON object." in page.text


def test_a_run_of_no_cycle_at_all_renders(session_folder: Path, tmp_path: Path) -> None:
    from reports.run import RunWriter

    with RunWriter.create(
        tmp_path, plan="smoke", station="emulated", stepped=True, manifest={}, now_s=lambda: 0.0
    ) as writer:
        writer.close(verdict="aborted", reason="the charger did not answer")
    page = Page(write_report(writer.folder).read_text(encoding="utf-8"))
    assert "Aborted the charger did not answer" in page.text
    assert len(page.scripts) == 1  # no plot, no library


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        write_report(tmp_path)


@pytest.mark.slow
def test_bokeh_and_the_report_import_without_a_warning() -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run(
        [sys.executable, "-W", "error", "-c", "import reports.html"],
        check=True,
        timeout=60.0,
        env=environment,
        cwd=root,
    )


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("hostile", [False, True])
def test_chromium_draws_the_plots_under_the_policy_and_without_an_error(
    session_folder: Path, hostile_folder: Path, tmp_path: Path, hostile: bool
) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is not on PATH")
    path = write_report(hostile_folder if hostile else session_folder)
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr",
            "--virtual-time-budget=8000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100.0,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert any("document idle" in line for line in console), done.stderr[-2000:]
    assert not [line for line in console if re.search(r"refused|error|violates|alert", line, re.IGNORECASE)], console
    assert done.stdout.count('class="bk-Figure') >= 5 or done.stdout.count("bk-Figure") >= 5
