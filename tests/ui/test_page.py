"""The page in a real Chromium, over a real dashboard and a simulated API server."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tessera.dashboard.service import Service
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import dashboard, eventually, fill, gpu_node, no_room, pod
from tests.ui.pages import Watched, cells, needs_chromium, watching

pytestmark = needs_chromium


@pytest.fixture
async def service(api: ApiServer) -> AsyncIterator[Service]:
    fill(api)
    async with dashboard(api) as running:
        await eventually(lambda: len(running.feed.snapshot.pods) == 3, "all pods are listed")
        await eventually(lambda: running.feed.source.connected, "the API server is followed")
        yield running


@pytest.fixture
async def watched(browser: Browser, service: Service) -> AsyncIterator[Watched]:
    async with watching(browser, service.url) as found:
        yield found


async def test_the_map_has_a_cell_for_each_gpu_and_the_sums_are_right(watched: Watched) -> None:
    page = watched.page
    await cells(page, 3)
    await expect(page.locator('[data-total="Memory given"]')).to_contain_text("24 GiB of 96 GiB")
    await expect(page.locator('[data-total="GPUs"]')).to_contain_text("1 unhealthy")
    await expect(page.locator('#nodes tr[data-node="host-a"]')).to_contain_text("2 × NVIDIA A100")


async def test_why_a_pod_waits_is_on_the_page(watched: Watched, api: ApiServer) -> None:
    waiting = watched.page.locator("#waiting")
    await expect(waiting).to_contain_text("0/2 nodes are available: 3 GPUs not enough memory")
    await expect(waiting).to_contain_text("default/huge")
    api.store.put("events", no_room("huge", "3 GPUs: 2 not enough memory, 1 unhealthy"))
    await expect(waiting).to_contain_text("3 GPUs: 2 not enough memory, 1 unhealthy")


async def test_the_page_follows_the_cluster_without_a_reload(watched: Watched, api: ApiServer) -> None:
    page = watched.page
    await page.evaluate("window.notReloaded = true")
    api.store.put("gpunodes", gpu_node("host-c", "GPU-3", "GPU-4"))
    await cells(page, 5)
    api.store.put("pods", pod("fresh", mem="8Gi", on="host-c", uuid="GPU-3"))
    await expect(page.locator('#pods tr[data-pod="default/fresh"]')).to_contain_text("GPU 0 · 8 GiB")
    await expect(page.locator('[data-total="Memory given"]')).to_contain_text("32 GiB of 176 GiB")
    api.store.remove("pods", "default", "huge")
    await expect(page.locator("#waiting")).to_contain_text("Nothing waits")
    assert await page.evaluate("window.notReloaded") is True


async def test_keys_reach_every_gpu_and_say_who_holds_it(watched: Watched) -> None:
    page = watched.page
    await cells(page, 3)
    await page.locator("#heat").focus()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#heat-says")).to_contain_text("NVIDIA A100 2 on host-a, 50% of memory given to 1 slice")
    await expect(page.locator(".tip")).to_contain_text("kube-system/large")
    await page.keyboard.press("Enter")
    await expect(page.locator(".chosen")).to_contain_text("GPU-1")
    await expect(page.locator("#pods tbody tr")).to_have_count(1)
    await page.keyboard.press("Escape")
    await expect(page.locator("#pods tbody tr")).to_have_count(3)


async def test_the_mouse_shows_an_unhealthy_gpu(watched: Watched) -> None:
    page = watched.page
    await cells(page, 3)
    await page.locator("#heat").hover(position={"x": 150, "y": 45})
    await expect(page.locator(".tip")).to_contain_text("Xid 79")
    await page.mouse.move(5, 5)
    await expect(page.locator(".tip")).to_have_count(0)
    await page.locator("#heat").focus()
    await page.keyboard.press("End")
    await expect(page.locator("#heat-says")).to_contain_text("unhealthy: Xid 79")


async def test_the_same_numbers_stand_in_a_table(watched: Watched) -> None:
    page = watched.page
    await page.get_by_text("GPUs as a table").click()
    await expect(page.locator("#gpu-table")).to_have_attribute("aria-rowcount", "3")
    await expect(page.locator('#gpu-table tr[data-gpu="GPU-1"]')).to_contain_text("20 GiB")


async def test_filters_of_pods_and_nodes(watched: Watched) -> None:
    page, rows = watched.page, watched.page.locator("#pods tbody tr")
    await page.get_by_role("button", name="Waiting").click()
    await expect(rows).to_have_count(1)
    await page.get_by_role("button", name="All", exact=True).click()
    await page.get_by_label("Filter pods").fill("kube-system")
    await expect(rows).to_have_count(1)
    await page.get_by_label("Filter pods").fill("no such pod")
    await expect(page.get_by_text("No pod matches.")).to_be_visible()
    await page.get_by_label("Filter pods").fill("")
    await page.locator("#nodes").get_by_role("button", name="host-a").click()
    await expect(rows).to_have_count(2)


async def test_a_narrow_page_does_not_scroll_sideways(watched: Watched) -> None:
    page = watched.page
    await page.set_viewport_size({"width": 390, "height": 844})
    await cells(page, 3)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_names_from_the_cluster_are_text_not_markup(watched: Watched, api: ApiServer) -> None:
    page = watched.page
    api.store.put("pods", pod("sly", why="<img src=x onerror=alert(1)> & <script>alert(2)</script>"))
    await expect(page.locator("#waiting")).to_contain_text("<img src=x onerror=alert(1)>")
    assert await page.locator("#waiting img").count() == 0


async def test_an_empty_cluster_says_what_to_do(browser: Browser, api: ApiServer) -> None:
    async with dashboard(api) as service:
        page = await browser.new_page()
        await page.goto(service.url)
        await expect(page.get_by_text("No GPUs yet.")).to_be_visible()
        await expect(page.get_by_text("No pod asks for a slice yet.")).to_be_visible()
        await page.close()


async def test_a_dashboard_that_ends_is_said_and_its_return_too(browser: Browser, api: ApiServer) -> None:
    fill(api)
    page = await browser.new_page()
    async with dashboard(api) as service:
        await page.goto(service.url)
        await cells(page, 3)
        address = service.url.removeprefix("http://")
    await expect(page.locator("#link")).to_contain_text("Disconnected", timeout=15_000)
    await expect(page.get_by_role("alert")).to_contain_text("the last known state")
    await cells(page, 3)
    api.store.put("gpunodes", gpu_node("host-c", "GPU-3"))
    async with dashboard(api, listen=address):
        await expect(page.locator("#link")).to_have_text("Live", timeout=30_000)
        await cells(page, 4)
        await page.close()


async def test_without_a_token_the_page_asks_for_one(browser: Browser, api: ApiServer) -> None:
    async with dashboard(api, auth="kubernetes") as service:
        page = await browser.new_page()
        await page.goto(service.url)
        await expect(page.get_by_label("Token")).to_be_visible()
        await expect(page.locator("#heat")).to_have_count(0)
        await page.close()


async def test_a_page_opened_before_the_first_list_fills_by_itself(browser: Browser, api: ApiServer) -> None:
    fill(api)
    api.faults.fail_next(4, status=503, verb="list")
    async with dashboard(api) as service:
        page = await browser.new_page()
        await page.goto(service.url)
        await expect(page.locator("#heat")).to_have_attribute("data-cells", "3", timeout=20_000)
        await expect(page.get_by_role("alert")).to_have_count(0)
        await page.close()


async def test_forty_thousand_gpus_are_drawn_and_still_followed(browser: Browser, api: ApiServer) -> None:
    for i in range(5000):
        api.store.put("gpunodes", gpu_node(f"host-{i:04d}", *(f"GPU-{i}-{j}" for j in range(8))))
    async with dashboard(api) as service:
        await eventually(lambda: len(service.feed.snapshot.gpus) == 40_000, "all GPUs are listed", 60)
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        await page.goto(service.url)
        await expect(page.locator("#heat")).to_have_attribute("data-cells", "40000", timeout=60_000)
        api.store.put("pods", pod("one", on="host-4999", uuid="GPU-4999-7"))
        await expect(page.locator('#pods tr[data-pod="default/one"]')).to_be_visible(timeout=60_000)
        await page.close()
