"""Training on the remote device: step for step what this machine computes."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

pytestmark = pytest.mark.torch


def trained(device, make, optimizer, steps=4, features=8):
    """The losses of some steps, and the parameters after them. The optimizer is made before the model moves."""
    model = make()
    stepper = optimizer(model.parameters())
    model.to(device)
    torch.manual_seed(1)
    losses = []
    for step in range(steps):
        x = torch.randn(5, features, generator=torch.Generator().manual_seed(step)).to(device)
        loss = model(x).square().mean()
        stepper.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        stepper.step()
        losses.append(loss.item())
    return losses, dict(model.state_dict())


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 2))


def test_data_parallel_on_the_one_device(same):
    def program(device):
        model = nn.Linear(8, 2)
        model = model if device == "cpu" else nn.DataParallel(model.to(device))
        model(torch.ones(3, 8, device=device)).sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    same(program)


def test_an_encoder_given_what_is_padding(same):
    """What it gives for the padding itself is nothing to go by."""
    padding = torch.tensor([[False, False, False, True], [False, False, True, True]])

    def program(device):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = nn.TransformerEncoder(layer, 2).to(device).eval()
        x = torch.arange(64.0, device=device).view(2, 4, 8) / 64
        with torch.no_grad():
            return model(x, src_key_padding_mask=padding.to(device)).cpu()[~padding]

    same(program, rtol=1e-5, atol=1e-6)


class Steps(nn.Module):
    """A recurrent network over its input as a sequence."""

    def __init__(self, kind):
        super().__init__()
        self.inner = kind(4, 6, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.inner(x.view(len(x), 2, 4))[0]


@pytest.mark.parametrize("options", [
    {"cls": torch.optim.SGD, "lr": 0.1, "momentum": 0.9},
    {"cls": torch.optim.Adam, "lr": 0.01},
    {"cls": torch.optim.Adam, "lr": 0.01, "capturable": True},
    {"cls": torch.optim.AdamW, "lr": 0.01, "fused": True},
    {"cls": torch.optim.AdamW, "lr": 0.01, "amsgrad": True},
    {"cls": torch.optim.RMSprop, "lr": 0.01},
], ids=lambda options: "-".join([options["cls"].__name__.lower(), *options.keys() - {"cls", "lr"}]))  # fmt: skip
def test_optimizers(same, options):
    cls, rest = options["cls"], {name: value for name, value in options.items() if name != "cls"}
    plain = {name: value for name, value in rest.items() if name not in ("fused", "capturable")}

    def program(device):
        given = plain if device == "cpu" else rest
        return trained(device, mlp, lambda parameters: cls(parameters, **given))

    same(program, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks(same, kind):
    program = lambda device: trained(device, lambda: Steps(kind), lambda p: torch.optim.SGD(p, 0.1))  # noqa: E731
    same(program, rtol=1e-5, atol=1e-6)


def test_convolutions_and_batch_norm_in_training_and_evaluation(same):
    def program(device):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
        )
        model.to(device)
        x = torch.randn(3, 1, 8, 8).to(device)
        model(x).sum().backward()
        grads = [parameter.grad for parameter in model.parameters()]
        return grads, model.eval()(x), dict(model.state_dict()), model(x).sum().backward()

    same(program, rtol=1e-4, atol=1e-5)


def test_a_transformer_and_its_cache(same):
    def program(device):
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0).to(device)
        x = torch.randn(2, 6, 16).to(device)
        layer(x).sum().backward()
        keys, tokens = torch.zeros(1, 2, 8, 8, device=device), []
        for at in range(3):
            keys[:, :, at] = x[:1, at].view(1, 2, 8)
            query = x[:1, at].view(1, 2, 1, 8)
            seen = keys[:, :, : at + 1]
            tokens.append(nn.functional.scaled_dot_product_attention(query, seen, seen).argmax())
        return layer.linear1.weight.grad, torch.stack(tokens), layer.eval()(x)

    same(program, rtol=1e-4, atol=1e-5)


def test_a_copied_module_trains_from_no_gradient(same):
    def program(device):
        layer, x = nn.Linear(3, 2).to(device), torch.ones(4, 3, device=device)
        layer(x).square().sum().backward()
        copied = copy.deepcopy(layer)
        assert copied.weight.grad is None
        copied(x).square().sum().backward()
        plain = torch.ones(2, device=device, requires_grad=True)
        plain.sum().backward()
        return copied.weight.grad, copy.deepcopy(plain).grad

    same(program)


def test_embeddings(same):
    def program(device):
        embedding = nn.Embedding(5, 3, padding_idx=0).to(device)
        bag = nn.EmbeddingBag(5, 3, mode="mean").to(device)
        at = torch.tensor([[1, 3, 0], [2, 2, 4]], device=device)
        (embedding(at).sum() + bag(at).square().sum()).backward()
        return embedding.weight.grad, bag.weight.grad

    same(program, rtol=1e-6, atol=1e-6)


def test_checkpointing_draws_the_same_dropout_again(same):
    def program(device):
        block = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Tanh()).to(device)
        x = torch.randn(4, 8).to(device).requires_grad_()
        torch.manual_seed(2)
        checkpoint(block, x, use_reentrant=False).sum().backward()
        first = x.grad.clone()
        checkpoint(block, x, use_reentrant=True).sum().backward()
        return first, x.grad

    same(program, rtol=1e-6, atol=1e-6)


def test_autocast_and_scaled_gradients(same):
    def program(device):
        model, x = nn.Linear(8, 4).to(device), torch.randn(5, 8).to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            out = model(x)
            loss = out.float().square().mean() if out.dtype is torch.bfloat16 else None
            softened = torch.softmax(out, 1).dtype if device != "cpu" else torch.float32
        loss.backward()
        return (
            out.dtype is torch.bfloat16,
            model.weight.dtype is torch.float32,
            softened is torch.float32,
            loss,
            model.weight.grad,
        )

    same(program, rtol=2e-2, atol=2e-2)


def test_a_scaler_skips_steps_that_overflow(cuda):
    model = nn.Linear(2, 1).to(cuda)
    optimizer, scaler = torch.optim.SGD(model.parameters(), 0.1), torch.amp.GradScaler("cuda", init_scale=4.0)
    before = model.weight.detach().cpu()
    scaler.scale(model(torch.full((1, 2), float("inf"), device=cuda)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model.weight.detach().cpu(), before) and scaler.get_scale() == 2.0
    optimizer.zero_grad()
    scaler.scale(model(torch.ones(1, 2, device=cuda)).sum()).backward()
    scaler.step(optimizer)
    torch.testing.assert_close(model.weight.detach().cpu(), before - 0.1)


def test_half_precision(same):
    def program(device):
        model = nn.Linear(8, 4).to(device).to(torch.bfloat16)
        x = torch.randn(5, 8).to(torch.bfloat16).to(device)
        model(x).float().sum().backward()
        return model.weight.grad, model.half().weight

    same(program, rtol=1e-2, atol=1e-2)


def test_state_goes_to_a_file_and_back(same):
    def program(device):
        model, other = mlp().to(device).eval(), mlp().to(device).eval()
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, map_location=device))
        file.seek(0)
        here = mlp().eval()
        here.load_state_dict(torch.load(file, map_location="cpu"))
        x = torch.ones(2, 8)
        return other(x.to(device)), here(x), copy.deepcopy(model)(x.to(device))

    same(program, rtol=1e-6, atol=1e-6)


def test_tied_weights_stay_tied(same):
    def program(device):
        model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
        model[1].weight = model[0].weight
        model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        model(torch.tensor([1, 2], device=device)).square().sum().backward()
        optimizer.step()
        return model[0].weight is model[1].weight, len(list(model.parameters())), model[0].weight, model[1].weight

    same(program, rtol=1e-6, atol=1e-6)


def test_parameters_keep_their_identity(cuda):
    model = nn.Linear(2, 2)
    before = [id(parameter) for parameter in model.parameters()]
    model.to(cuda)
    assert [id(parameter) for parameter in model.parameters()] == before and all(p.is_cuda for p in model.parameters())
    model.cpu()
    assert [id(parameter) for parameter in model.parameters()] == before and not model.weight.is_cuda


def test_data_of_a_parameter_moves_alone(same):
    def program(device):
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(device)
        model(torch.ones(1, 3, device=device)).sum().backward()
        optimizer.step()
        moved = model.weight.device.type == device
        model.weight.data = model.weight.data * 0 + 5
        return moved, model.weight, model(torch.ones(1, 3, device=device)), isinstance(model.weight, nn.Parameter)

    same(program, rtol=1e-6, atol=1e-6)


def test_functional_transforms(same):
    def program(device):
        w, x = torch.randn(3).to(device), torch.randn(4, 3).to(device)
        loss = lambda w, x: (w @ x).sin()  # noqa: E731
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, x)
        return (
            each,
            torch.func.jacrev(lambda w: x @ w)(w),
            torch.func.jvp(torch.sin, (w,), (torch.ones_like(w),)),
            torch.func.jacfwd(lambda w: (x @ w).exp())(w),
            torch.func.linearize(lambda w: (x @ w).exp(), w)[1](torch.ones_like(w)),
            make_fx(lambda w: (x @ w).sin() + torch.ones(4, device=device))(w)(w * 2),
            torch.func.functional_call(nn.Linear(3, 1).to(device), {}, x),
        )

    same(program, rtol=1e-5, atol=1e-6)


def test_a_function_of_its_own(same):
    class Cubed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * 3 * x**2 + torch.zeros(1, device="cuda" if x.is_cuda else "cpu")

    def program(device):
        x = torch.linspace(-1, 1, 5).to(device).requires_grad_()
        Cubed.apply(x).sum().backward()
        return x.grad

    same(program)


def test_hooks(same):
    def program(device):
        seen = []
        model = nn.Linear(2, 2).to(device)
        model.register_forward_hook(lambda module, given, out: seen.append(out.shape[0]) or out * 2)
        model.weight.register_hook(lambda grad: grad * 10)
        model.register_full_backward_hook(lambda module, given, out: seen.append(len(out)))
        model(torch.ones(3, 2, device=device)).sum().backward()
        return seen, model.weight.grad, model.bias.grad

    same(program, rtol=1e-6, atol=1e-6)
