"""timm: its models, loss, optimizers, schedule, mixing of images and moving average."""

import json

import timm
import timm.data
import timm.loss
import timm.optim
import timm.scheduler
import timm.utils
import torch

MODELS = {
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 2},
    "efficientnet_lite0": {},
    "convnext_atto": {},
    "mixer_s32_224": {"img_size": 32},
    "regnetx_002": {},
}
OPTIMIZERS = ["lamb", "momentum", "adamw", "adafactor", "lion"]


def learn(name: str, optimizer_name: str, device: torch.device) -> list[float]:
    timm.utils.random_seed(0, 0)
    model = timm.create_model(name, num_classes=10, **MODELS[name]).to(device)
    average = timm.utils.ModelEmaV3(model, decay=0.9)
    optimizer = timm.optim.create_optimizer_v2(model, opt=optimizer_name, lr=1e-3, weight_decay=0.01)
    schedule, _ = timm.scheduler.create_scheduler_v2(optimizer, num_epochs=3, warmup_epochs=1)
    mix = timm.data.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=10)
    criterion = timm.loss.SoftTargetCrossEntropy()
    scaler = timm.utils.NativeScaler(device=device.type)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for epoch in range(3):
        image = torch.rand(4, 3, 32, 32, generator=generator).to(device)
        label = torch.randint(10, (4,), generator=generator).to(device)
        image, target = mix(image, label)
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        scaler(loss, optimizer, clip_grad=1.0, parameters=model.parameters())
        average.update(model)
        schedule.step(epoch + 1)
        losses.append(loss.item())
    average.module.eval()
    with torch.no_grad():
        top1, top5 = timm.utils.accuracy(average.module(image), label, topk=(1, 5))
    return [*losses, top1.item(), top5.item()]


if __name__ == "__main__":
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pairs = zip(MODELS, OPTIMIZERS, strict=True)
    print(json.dumps({"device": device.type, **{name: learn(name, optimizer, device) for name, optimizer in pairs}}))
