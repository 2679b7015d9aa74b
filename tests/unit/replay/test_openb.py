"""Trace files: read whole, or refused with one sentence that names file, line and field."""

from pathlib import Path

import pytest

from tessera.simulator.replay.openb import Shape, TraceNode, read_nodes, read_pods
from tessera.simulator.replay.tables import TraceError

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,64000,262144,2,T4\nn2,96000,393216,8,A10\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
MANY = NODES + "".join(f"m{number},1,1,1,T4\n" for number in range(9000))


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal_of_pods(folder: Path, text: str | bytes) -> str:
    nodes = write(folder, "nodes.csv", NODES)
    with pytest.raises(TraceError) as caught:
        read_pods(write(folder, "pods.csv", text), read_nodes(nodes), nodes)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.replace(f"{folder}/", "")


def test_nodes_and_pods_are_read(tmp_path: Path) -> None:
    nodes = read_nodes(write(tmp_path, "nodes.csv", NODES))
    assert nodes[0] == TraceNode("n1", 64000, 262144, 2, "T4", 32768)
    lines = "a,4000,8192,1,460,\nb,1000,1024,0,0,\nc,8000,1,2,1000,T4|A10\n"
    trace = read_pods(write(tmp_path, "some.csv", PODS + lines), nodes, tmp_path / "nodes.csv")
    assert trace.variant == "some" and trace.milli == 2460
    assert trace.shapes == (
        Shape(4000, 8192, 1, 460),
        Shape(1000, 1024, 0, 0),
        Shape(8000, 1, 2, 1000, ("A10", "T4")),
    )


def test_memory_of_gpus_and_of_shares_is_optional(tmp_path: Path) -> None:
    text = "sn,cpu_milli,memory_mib,gpu,model,gpu_mem_mib\nn1,64000,262144,2,T4,16384\nn2,64000,262144,2,T4,\n"
    nodes = read_nodes(write(tmp_path, "nodes.csv", text))
    assert [node.gpu_mem_mib for node in nodes] == [16384, 32768]
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_mem_mib\na,1,1,1,500,2048\nb,1,1,1,500,\n"
    trace = read_pods(write(tmp_path, "pods.csv", text), nodes, tmp_path / "nodes.csv")
    assert [shape.gpu_mem_mib for shape in trace.shapes] == [2048, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nodes.csv, line 1: found no header; allowed: the columns sn, cpu_milli, memory_mib, gpu, model"),
        ("sn,cpu_milli,memory_mib,gpu,model\n", "nodes.csv, line 2: found nothing below the header"),
        ("sn,cpu_milli,gpu,model\nn1,1,1,T4\n", "nodes.csv, line 1: memory_mib: found no such column"),
        ("sn,sn,cpu_milli,memory_mib,gpu,model\n", "nodes.csv, line 1: sn: found twice"),
        (NODES + "n1,1,1,1,T4\n", "nodes.csv, line 4: sn: found 'n1'; allowed: a name that no other line has"),
        (NODES + ",1,1,1,T4\n", "nodes.csv, line 4: sn: found ''; allowed: a name"),
        (NODES + "n3,1,1,0,T4\n", "nodes.csv, line 4: gpu: found '0'; allowed: a whole number from 1 to 64"),
        (NODES + "n3,1,1,2,\n", "nodes.csv, line 4: model: found ''; allowed: the name of a GPU model"),
        (NODES + "n3,1,1,2,A|B\n", "nodes.csv, line 4: model: found 'A|B'"),
        (NODES + "n3,1.5,1,2,T4\n", "nodes.csv, line 4: cpu_milli: found '1.5'; allowed: a whole number"),
        (NODES + "n3,1,-1,2,T4\n", "nodes.csv, line 4: memory_mib: found '-1'"),
        (NODES + "n3,1,1,2\n", "nodes.csv, line 4: found 4 fields; allowed: 5, as in line 1"),
        (b"sn,\xff\xfe\n", "nodes.csv, line 1: found bytes that are not UTF-8"),
        (MANY.encode() + b"x,\xff\n", "nodes.csv, line 9004: found bytes that are not UTF-8"),
        (NODES + 'n3,1,1,1,"T4\n', "nodes.csv, line 4: found what is not CSV"),
    ],
)
def test_nodes_that_cannot_be_used(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_nodes(write(tmp_path, "nodes.csv", text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a,1,1,1,455,", "gpu_milli: found '455'; allowed: a multiple of 10"),
        ("a,1,1,1,1010,", "gpu_milli: found '1010'; allowed: a whole number from 0 to 1000"),
        ("a,1,1,1,0,", "gpu_milli: found '0'; allowed: 10 to 1000 beside num_gpu 1"),
        ("a,1,1,0,500,", "gpu_milli: found '500'; allowed: 0 beside num_gpu 0"),
        ("a,1,1,one,500,", "num_gpu: found 'one'; allowed: a whole number from 0 to 64"),
        ("a,,1,1,500,", "cpu_milli: found ''"),
        ("a,1,1,1,1000,H900", "gpu_spec: found 'H900'; allowed: the models of nodes.csv: A10, T4"),
        ("a,1,1,1,1000,T4|", "gpu_spec: found 'T4|'; allowed: the models of nodes.csv: A10, T4"),
        ("a,1,1,9,1000,", "num_gpu: found '9'; allowed: at most 8, what the largest node of nodes.csv has"),
        ("a,1,1,4,1000,T4", "num_gpu: found '4'; allowed: at most 2, what the largest node of T4 in nodes.csv has"),
        ("a,96001,1,1,1000,", "cpu_milli: found '96001'; allowed: at most 96000, what the largest node of nodes.csv"),
        ("a,1,393217,1,1000,", "memory_mib: found '393217'; allowed: at most 393216"),
    ],
)
def test_pods_that_cannot_be_used(tmp_path: Path, line: str, said: str) -> None:
    sentence = refusal_of_pods(tmp_path, f"{PODS}ok,1,1,1,1000,\n{line}\n")
    assert sentence.startswith("pods.csv, line 3: ") and said in sentence


def test_a_pod_too_large_for_the_hosts_of_its_model_alone_is_let_through_with_a_note(tmp_path: Path) -> None:
    nodes = write(tmp_path, "nodes.csv", NODES)
    pods = write(tmp_path, "pods.csv", f"{PODS}a,1,1,1,1000,T4\nb,90000,1,1,1000,T4\nc,90000,1,1,1000,T4\n")
    trace = read_pods(pods, read_nodes(nodes), nodes)
    assert len(trace.shapes) == 3
    assert trace.note.endswith(
        "2 pods ask more CPU or memory than any host of the models in gpu_spec has, first in line 3"
    )


def test_what_no_node_holds_together_is_refused(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.csv"
    nodes.write_text("sn,cpu_milli,memory_mib,gpu,model\nbig,96000,1000,1,T4\nwide,8000,1000,8,T4\n")
    pods = write(tmp_path, "pods.csv", f"{PODS}a,96000,1,8,1000,\n")
    with pytest.raises(TraceError, match=r"line 2: num_gpu: found '8'; allowed: what one node .* cpu_milli 96000"):
        read_pods(pods, read_nodes(nodes), nodes)


def test_names_twice_and_lists_without_gpu_pods_are_refused(tmp_path: Path) -> None:
    assert "pods.csv, line 3: name: found 'a'" in refusal_of_pods(tmp_path, f"{PODS}a,1,1,1,10,\na,1,1,1,10,\n")
    assert "pods.csv: num_gpu: found 0 in every line" in refusal_of_pods(tmp_path, f"{PODS}a,1,1,0,0,\n")
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_mem_mib\na,1,1,1,1000,4\n"
    assert "gpu_mem_mib: found '4'; allowed: 0 or nothing beside gpu_milli 1000" in refusal_of_pods(tmp_path, text)


def test_a_quoted_line_break_does_not_shift_the_lines(tmp_path: Path) -> None:
    sentence = refusal_of_pods(tmp_path, f'{PODS}"a\nb",1,1,1,10,\nc,1,1,1,15,\n')
    assert sentence.startswith("pods.csv, line 4: gpu_milli")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.csv: No such file or directory"):
        read_nodes(tmp_path / "none.csv")
