"""The folder for compiled policies, where nothing else can be written."""

from tests.chart.chart import render


def test_the_scheduler_can_keep_what_it_compiles() -> None:
    container = render().one("Deployment", "tessera-scheduler")["spec"]["template"]["spec"]["containers"][0]
    folder = next(e["value"] for e in container["env"] if e["name"] == "NUMBA_CACHE_DIR")
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert folder in {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
