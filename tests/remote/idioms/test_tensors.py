"""What programs do with tensors, on the remote device and on this machine: the same."""

import copy
import io

import pytest
import torch

pytestmark = pytest.mark.torch


def test_in_place_on_a_view_changes_what_it_is_a_view_of(same):
    def program(device):
        whole = torch.arange(12.0).reshape(3, 4).to(device)
        whole[1:, ::2].mul_(10).add_(1)
        whole.t()[0] = -1
        return whole

    same(program)


def test_autograd_goes_through_changes_in_place(same):
    def program(device):
        x = torch.linspace(-1, 1, 12).reshape(3, 4).to(device).requires_grad_()
        y = x * 2
        y[0].mul_(3)
        y.view(-1)[4:8].add_(x[2] * x[0])
        y.relu_()
        y.sum().backward()
        return y, x.grad

    same(program)


def test_views_that_are_not_contiguous(same):
    def program(device):
        x = torch.arange(24.0).reshape(2, 3, 4).to(device)
        turned = x.permute(2, 0, 1)[::2]
        return (
            turned,
            turned.stride(),
            turned.contiguous().view(-1),
            turned.reshape(-1),
            turned.flip(0),
            x.unfold(2, 2, 1),
        )

    same(program)


def test_expanded_tensors_come_back_whole(same):
    same(lambda device: (torch.ones(3, 1, device=device).expand(3, 5), torch.ones(1, device=device).expand(2, 2) + 1))


def test_channels_last_stays_so(same):
    def program(device):
        x = torch.randn(2, 3, 4, 5).to(device).to(memory_format=torch.channels_last)
        y = torch.nn.functional.conv2d(x, torch.ones(2, 3, 2, 2, device=device))
        return y, y.stride(), x.cpu().stride()

    same(program, rtol=1e-5, atol=1e-5)


def test_control_flow_waits_for_values(same):
    def program(device):
        x = torch.tensor([3.0, 1.0, 2.0], device=device)
        steps = 0
        while x.sum() > 1:
            x = x / 2
            steps += 1
        return steps, bool((x < 1).all()), torch.equal(x, x.clone()), torch.allclose(x, x + 1), int(x.argmax()), len(x)

    same(program)


def test_lists_numpy_and_printing(same):
    def program(device):
        x = torch.arange(6, device=device).reshape(2, 3)
        return (
            x.tolist(),
            x.cpu().numpy().sum(),
            x[0, 1].item(),
            float(f"{x[1, 2].item():d}"),
            [int(row.sum()) for row in x],
        )

    same(program)


def test_printing_names_the_device(cuda):
    shown = repr(torch.ones(2, device=cuda, requires_grad=True))
    assert shown == "tensor([1., 1.], device='cuda:0', requires_grad=True)"


def test_sorting_and_drawing(same):
    def program(device):
        x = torch.tensor([[3.0, 1.0, 2.0], [0.5, 4.0, 0.1]], device=device)
        drawn = torch.multinomial(x, 2)
        return x.topk(2), x.sort(descending=True), x.argsort(), drawn, x.kthvalue(2), x.median(), x.cummax(1)

    same(program)


def test_indexing(same):
    def program(device):
        x = torch.zeros(4, 3, device=device)
        rows = torch.tensor([0, 2, 2], device=device)
        x.index_put_((rows,), torch.ones(3, 3, device=device), accumulate=True)
        x[torch.tensor([1, 3])] = 7.0
        x.scatter_(1, torch.tensor([[0], [1], [2], [0]], device=device), -5.0)
        x.masked_fill_(x == 0, 9)
        return x, x[x > 1], x[rows], x.masked_select(x < 0), torch.where(x > 0, x, 0), x.gather(1, x.argmax(1, True))

    same(program)


def test_results_whose_size_depends_on_values(same):
    def program(device):
        x = torch.tensor([0, 2, 2, 0, 5], device=device)
        return (
            x.nonzero(), x.unique(return_counts=True), torch.bincount(x), x.repeat_interleave(x), torch.where(x > 0),
            torch.unique_consecutive(x),
        )  # fmt: skip

    same(program)


def test_linear_algebra_and_complex_numbers(same):
    def program(device):
        x = torch.randn(4, 4).to(device)
        spectrum = torch.fft.rfft(x)
        return (
            torch.linalg.solve(x, torch.ones(4, 1, device=device)), torch.linalg.det(x), torch.linalg.svd(x)[1],
            torch.linalg.inv(x @ x.T + torch.eye(4, device=device)), torch.fft.irfft(spectrum, n=4), spectrum.abs(),
            spectrum.conj() * spectrum, torch.view_as_real(spectrum), spectrum.conj().T, spectrum.imag.neg(),
        )  # fmt: skip

    same(program, rtol=1e-4, atol=1e-4)


def test_a_copy_of_a_copy_is_its_own(same):
    def program(device):
        x = torch.ones(3, device=device, requires_grad=True)
        (x * 2).sum().backward()
        copied = copy.deepcopy({"one": x, "again": x})
        with torch.no_grad():
            x.zero_()
        return copied["one"], copied["one"].grad, copied["again"] is copied["one"], copied["one"].requires_grad

    same(program)


def test_saved_and_loaded(same, cuda):
    def program(device):
        file = io.BytesIO()
        torch.save({"x": torch.arange(3.0, device=device), "deep": [torch.ones(2, device=device).t()]}, file)
        file.seek(0)
        loaded = torch.load(file, map_location=device)
        file.seek(0)
        return loaded, loaded["x"].device.type == device, torch.load(file, map_location="cpu")

    same(program)


def test_new_data_for_a_tensor(same):
    def program(device):
        x = torch.ones(3, device=device, requires_grad=True)
        held = x.detach()
        x.data = torch.arange(4.0, device=device)
        y = (x * x).sum()
        y.backward()
        x.data.add_(1)
        return x, x.shape, x.grad, held

    same(program)


def test_set_makes_a_tensor_see_another(same):
    def program(device):
        x, other = torch.zeros(2, device=device), torch.arange(6.0, device=device)
        x.set_(other.view(2, 3))
        x.add_(1)
        return x, other, x.shape

    same(program)


def test_resized(same):
    def program(device):
        x = torch.arange(6.0, device=device)
        x.resize_(2, 2)
        out = torch.empty(0, device=device)
        torch.add(x, x, out=out)
        return x, out, torch.empty(0, device=device).resize_(3).fill_(2)

    same(program)


def test_dtypes_cross_over_as_they_are(same):
    kinds = (
        torch.float16,
        torch.bfloat16,
        torch.int8,
        torch.uint8,
        torch.int64,
        torch.bool,
        torch.complex64,
        torch.float64,
    )
    same(lambda device: [torch.arange(3).to(kind).to(device) for kind in kinds])


def test_empty_and_single_tensors(same):
    def program(device):
        nothing, one = torch.empty(0, 3, device=device), torch.tensor(5, device=device)
        return nothing, nothing.sum(), one, one + 1, one.item(), torch.cat([nothing, torch.ones(2, 3, device=device)])

    same(program)


def test_a_list_of_more_tensors_than_a_byte_counts(same):
    same(lambda device: torch._foreach_add([torch.full((2,), float(at), device=device) for at in range(300)], 1.0))
