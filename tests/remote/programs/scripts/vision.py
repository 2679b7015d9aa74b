"""torchvision: models of several kinds learn FakeData."""

import json

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

MODELS = {
    "resnet18": models.resnet18,
    "mobilenet_v3_small": lambda **kind: models.mobilenet_v3_small(dropout=0.0, **kind),
    "densenet121": models.densenet121,
    "vit": lambda **kind: models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, **kind
    ),
    "swin": lambda **kind: models.SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[1, 1], num_heads=[2, 4], window_size=[4, 4],
        stochastic_depth_prob=0.0, **kind,
    ),
    "convnext_tiny": lambda **kind: models.convnext_tiny(stochastic_depth_prob=0.0, **kind),
}  # fmt: skip


def learn(name: str, device: torch.device) -> list[float]:
    torch.manual_seed(0)
    images = datasets.FakeData(size=16, image_size=(3, 64, 64), num_classes=10, transform=transforms.ToTensor())
    loader = DataLoader(images, batch_size=4, shuffle=True, num_workers=1, pin_memory=device.type == "cuda")
    model = MODELS[name](num_classes=10).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1).to(device)
    losses = []
    model.train()
    for image, label in loader:
        image, label = image.to(device, non_blocking=True), label.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss = criterion(model(image), label)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    model.eval()
    with torch.inference_mode():
        correct = sum((model(image.to(device)).argmax(1).cpu() == label).sum().item() for image, label in loader)
    return [*losses, correct]


if __name__ == "__main__":
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(json.dumps({"device": device.type, **{name: learn(name, device) for name in MODELS}}))
