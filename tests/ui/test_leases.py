"""Slices on other nodes, on the page in a real Chromium."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tessera.model.quantities import GIB
from tessera.simulator.apiserver import ApiServer
from tests.integration.dashboard.objects import (
    POOL,
    client_of,
    dashboard,
    eventually,
    executor_of,
    fill,
    fill_pool,
    lease,
)
from tests.ui.pages import Watched, needs_chromium, watching

pytestmark = needs_chromium


@pytest.fixture
async def watched(browser: Browser, api: ApiServer) -> AsyncIterator[Watched]:
    fill(api)
    fill_pool(api)
    async with dashboard(api) as service:
        await eventually(lambda: len(service.feed.snapshot.leases) == 2, "all leases are listed")
        await eventually(lambda: service.feed.source.connected, "the API server is followed")
        async with watching(browser, service.url) as found:
            yield found


async def test_leases_are_a_table_with_their_phases_in_words(watched: Watched) -> None:
    served = watched.page.locator('#leases tr[data-lease="default/train-1"]')
    for text in ("default/train", "in use", "GPU 0 on host-a · 8 GiB · 30%", "cpu-1", "tessera-system/executor-train"):
        await expect(served).to_contain_text(text)
    lost = watched.page.locator('#leases tr[data-lease="default/eval-1"]')
    await expect(lost.locator(".phase")).to_have_text("lost")
    await expect(lost).to_contain_text("executor executor-eval: container gate ended with status 1")


async def test_a_lease_is_followed_from_its_making_to_its_end(watched: Watched, api: ApiServer) -> None:
    page, row = watched.page, watched.page.locator('#leases tr[data-lease="default/fresh-1"]')
    kept = lease("fresh", phase="Reserved")
    api.store.put("gpuleases", kept)
    api.store.put("pods", client_of(kept))
    await expect(row.locator(".phase")).to_have_text("kept")
    await expect(page.locator('#pods tr[data-pod="default/fresh"]')).to_contain_text("LeaseReserved")
    api.store.put("gpuleases", lease("fresh"))
    api.store.put("pods", executor_of(kept))
    await expect(row.locator(".phase")).to_have_text("in use")
    await expect(page.locator('[data-total="Memory given"]')).to_contain_text("48 GiB of 96 GiB")
    api.store.remove("pods", "tessera-system", "executor-fresh")
    api.store.remove("gpuleases", "default", "fresh-1")
    await expect(row).to_have_count(0)
    await expect(page.locator('#pods tr[data-pod="default/fresh"]')).to_contain_text("NoLease")


async def test_a_lease_that_moves_says_where_it_goes_and_why_it_does_not(watched: Watched, api: ApiServer) -> None:
    page, row = watched.page, watched.page.locator('#leases tr[data-lease="default/train-1"]')
    await expect(row.locator(".goal")).to_have_count(0)
    moving = lease("train")
    moving["spec"]["wanted"] = {"memoryBytes": 12 * GIB, "corePercent": 0}
    moving["status"]["unmoved"] = "3 GPUs: 2 not enough memory, 1 unhealthy"
    api.store.put("gpuleases", moving)
    await expect(row.locator(".goal")).to_have_text("asked for: 12 GiB · no cap")
    await expect(row).to_contain_text("3 GPUs: 2 not enough memory, 1 unhealthy")
    del moving["status"]["unmoved"]
    moving["spec"]["target"] = {"node": "host-a", "gpuUUID": "GPU-1", "memoryBytes": 12 * GIB}
    moving["status"] |= {"phase": "Migrating", "next": {"namespace": POOL, "name": "executor-next"}}
    api.store.put("gpuleases", moving)
    await expect(row.locator(".phase")).to_have_text("moving")
    await expect(row.locator(".phase")).to_have_attribute(
        "title", "Its sessions are carried over to another executor, and go on there."
    )
    await expect(row).to_contain_text("moves to GPU 1 on host-a · 12 GiB")
    await expect(row).to_contain_text("then tessera-system/executor-next")
    await expect(page.locator('[data-total="Memory given"]')).to_contain_text("52 GiB of 96 GiB")
    await row.locator(".goal .chip").click()
    await expect(page.locator(".chosen")).to_contain_text("40 GiB of 40 GiB given")
    await expect(page.locator("#leases tbody tr")).to_have_count(2)
    await page.get_by_role("button", name="Stop filtering by GPU").first.click()
    settled = lease("train", on="host-a", uuid="GPU-1", gib=12)
    settled["spec"]["slice"]["corePercent"] = 0
    settled["spec"]["wanted"] = moving["spec"]["wanted"]
    api.store.put("gpuleases", settled)
    await expect(row.locator(".goal")).to_have_count(0)
    await expect(row).to_contain_text("GPU 1 on host-a · 12 GiB")


async def test_a_gpu_says_for_whom_its_executors_compute(watched: Watched) -> None:
    page = watched.page
    await page.locator('#leases tr[data-lease="default/train-1"] .chip').click()
    chosen = page.locator(".chosen")
    await expect(chosen).to_contain_text("default/train on cpu-1")
    await expect(chosen).to_contain_text("12 GiB of 40 GiB given")
    await expect(page.locator("#leases tbody tr")).to_have_count(1)
    await expect(page.locator("#pods tbody tr")).to_have_count(3)
    await expect(page.locator('#pods tr[data-pod="tessera-system/executor-train"]')).to_contain_text(
        "computes for default/train"
    )
    await page.locator('#leases tr[data-lease="default/train-1"] .chip').focus()
    await page.get_by_role("button", name="Stop filtering by GPU").first.click()
    await expect(page.locator("#leases tbody tr")).to_have_count(2)


async def test_a_client_node_shows_its_slots_and_filters_its_leases(watched: Watched, api: ApiServer) -> None:
    page = watched.page
    row = page.locator('#nodes tr[data-node="cpu-1"]')
    await expect(row).to_contain_text("client node")
    await expect(row).to_contain_text("2 of 16 slots")
    await expect(page.locator('[data-total="GPUs"]')).to_contain_text("on 2 nodes · 0 idle · for 1 client node")
    api.store.put("gpuleases", lease("far", client="cpu-2", uuid="GPU-1"))
    await expect(page.locator("#leases tbody tr")).to_have_count(3)
    await row.get_by_role("button", name="cpu-1").click()
    await expect(page.locator("#leases tbody tr")).to_have_count(2)
    await page.get_by_label("Filter leases").fill("lost")
    await expect(page.locator("#leases tbody tr")).to_have_count(1)
    await page.get_by_label("Filter leases").fill("no such lease")
    await expect(page.get_by_text("No lease matches.")).to_be_visible()


async def test_an_executor_that_waits_is_told_by_its_lease_alone(watched: Watched, api: ApiServer) -> None:
    api.store.put("pods", executor_of(lease("train"), waits=True))
    row = watched.page.locator('#pods tr[data-pod="tessera-system/executor-train"]')
    await expect(row).to_contain_text("Waiting")
    await expect(watched.page.locator('[data-total="Pods running"]')).to_contain_text("1 waiting")
    await expect(watched.page.locator("#waiting .who")).to_have_text(["default/huge"])


async def test_a_cluster_without_a_pool_does_not_speak_of_leases(browser: Browser, api: ApiServer) -> None:
    fill(api)
    async with dashboard(api) as service, watching(browser, service.url) as found:
        await expect(found.page.locator("#pods tbody tr")).to_have_count(3)
        await expect(found.page.get_by_text("Slices on other nodes")).to_have_count(0)


async def test_with_leases_a_narrow_page_does_not_scroll_sideways(watched: Watched) -> None:
    page = watched.page
    await page.set_viewport_size({"width": 390, "height": 844})
    await expect(page.locator("#leases tbody tr")).to_have_count(2)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
