"""Leases that their users made, on the page in a real Chromium: without a pod, without room, stopped."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import dashboard, eventually, executor_of, fill, fill_pool, standing
from tests.ui.pages import Watched, needs_chromium, watching

pytestmark = needs_chromium


@pytest.fixture
async def watched(browser: Browser, api: ApiServer) -> AsyncIterator[Watched]:
    fill(api)
    fill_pool(api)
    free = standing("mine")
    used = standing("ours", pod_name="small", phase="Active")
    api.store.put("pods", executor_of(free))
    waits = standing("large", room=False, phase="Pending", gib=30, unmoved="3 GPUs: 3 not enough memory")
    stops = standing("late", phase="Stopped", gib=2, stopped=True)
    for each in (free, used, waits, stops, standing("off", room=False, phase="Stopped", stopped=True)):
        api.store.put("gpuleases", each)
    async with dashboard(api) as service:
        await eventually(lambda: len(service.feed.snapshot.leases) == 7, "all leases are listed")
        await eventually(lambda: service.feed.source.connected, "the API server is followed")
        async with watching(browser, service.url) as found:
            yield found


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("mine", ["default/mine lease", "not in use", "GPU 0 on host-a · 8 GiB · 30%", "no pod",
                  "tessera-system/executor-mine"]),
        ("ours", ["default/small main lease ours", "in use", "GPU 0 on host-a · 8 GiB · 30%", "cpu-1",
                  "tessera-system/executor-ours"]),
        ("large", ["default/large lease", "no room yet 3 GPUs: 3 not enough memory", "asked for: 30 GiB · 30%",
                   "no pod", "–"]),
        ("late", ["default/late lease", "stopping", "GPU 0 on host-a · 2 GiB · 30%", "no pod", "–"]),
        ("off", ["default/off lease", "stopped", "once started: 8 GiB · 30%", "no pod", "–"]),
    ],
)  # fmt: skip
async def test_each_says_what_is_true_of_it(watched: Watched, name: str, cells: list[str]) -> None:
    row = watched.page.locator(f'#leases tr[data-lease="default/{name}"]')
    for at, text in enumerate(cells):
        await expect(row.locator("th, td").nth(at)).to_have_text(text, use_inner_text=True)


async def test_a_lease_that_a_pod_was_given_is_not_called_its_users(watched: Watched) -> None:
    await expect(watched.page.locator('#leases tr[data-lease="default/train-1"] .tag')).to_have_count(0)
    await expect(watched.page.locator('#leases tr[data-lease="default/mine"] .tag')).to_have_count(1)


async def test_a_gpu_names_the_lease_where_there_is_no_pod(watched: Watched) -> None:
    page = watched.page
    await page.locator('#leases tr[data-lease="default/mine"] .chip').click()
    chosen = page.locator(".chosen")
    who = chosen.locator("li", has_text="default/mine")
    await expect(who).to_contain_text("default/mine lease for no pod now")
    await expect(who).not_to_contain_text("no executor yet")
    await expect(chosen.locator("li", has_text="default/late")).to_contain_text("lease for no pod now, stopping")
    await expect(chosen.locator("li", has_text="default/train")).to_contain_text("on cpu-1")
    await expect(page.locator('#pods tr[data-pod="tessera-system/executor-mine"]')).to_contain_text(
        "computes for default/mine"
    )
    await expect(page.locator("#leases tbody tr")).to_have_count(4)


async def test_it_is_followed_from_no_pod_to_a_pod_and_back(watched: Watched, api: ApiServer) -> None:
    row = watched.page.locator('#leases tr[data-lease="default/mine"]')
    api.store.put("gpuleases", standing("mine", pod_name="train", phase="Active"))
    await expect(row.locator("th")).to_have_text("default/train main lease mine")
    await expect(row.locator(".phase")).to_have_text("in use")
    api.store.put("gpuleases", standing("mine"))
    await expect(row.locator("th")).to_have_text("default/mine lease")
    await watched.page.get_by_label("Filter leases").fill("default/mine")
    await expect(watched.page.locator("#leases tbody tr")).to_have_count(1)
    await watched.page.get_by_label("Filter pods").fill("default/mine")
    await expect(watched.page.locator("#pods tbody tr")).to_have_count(1)
    await watched.page.get_by_label("Filter leases").fill("stopp")
    await expect(watched.page.locator("#leases tbody tr")).to_have_count(2)


async def test_a_narrow_page_says_no_pod_and_does_not_scroll_sideways(watched: Watched) -> None:
    page = watched.page
    await page.set_viewport_size({"width": 390, "height": 844})
    before = """name => getComputedStyle(document.querySelector(
        `#leases tr[data-lease="default/${name}"] td:nth-child(4)`), "::before").content"""
    assert await page.evaluate(before, "mine") == "none"
    assert await page.evaluate(before, "ours") == '"for a container on "'
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
