"""The benchmark's network in PyTorch, written plainly; run by a Python that has it."""

import torch
from torch import nn
from workload import LEARNING_RATE, arguments, batches, take_turns


class FieldGate(nn.Module):
    def __init__(self, fields):
        super().__init__()
        self.gate = nn.Parameter(torch.ones(fields))

    def forward(self, x):  # [B, F, D]
        weights = torch.softmax(self.gate, 0) * len(self.gate)
        return x * weights[:, None]


class EDCN(nn.Module):
    def __init__(self, rows, fields, width, layers):
        super().__init__()
        self.table = nn.Embedding(rows, width, sparse=True)
        nn.init.normal_(self.table.weight, std=0.1)
        d = fields * width
        self.cross_gates = nn.ModuleList(FieldGate(fields) for _ in range(layers))
        self.deep_gates = nn.ModuleList(FieldGate(fields) for _ in range(layers))
        self.cross = nn.ModuleList(nn.Linear(d, 1, bias=False) for _ in range(layers))
        self.bias = nn.ParameterList(torch.zeros(d) for _ in range(layers))
        self.deep = nn.ModuleList(nn.Linear(d, d) for _ in range(layers))
        self.output = nn.Linear(3 * d, 1)

    def forward(self, ids):
        fields = self.table(ids)
        for layer, deep in enumerate(self.deep):
            x = self.cross_gates[layer](fields).flatten(1)
            h = self.deep_gates[layer](fields).flatten(1)
            if layer == 0:
                x0 = x
            x = x0 * self.cross[layer](x) + self.bias[layer] + x
            h = torch.relu(deep(h))
            f = x * h
            fields = f.view_as(fields)
        return self.output(torch.cat([x, h, f], 1))[:, 0]


def main():
    args = arguments()
    ids, labels = map(torch.from_numpy, batches(args))
    values = args.rows // args.fields
    ids = ids.long() + values * torch.arange(args.fields)
    model = EDCN(args.rows, args.fields, args.width, args.layers)
    dense = [p for name, p in model.named_parameters() if not name.startswith("table")]
    optimizers = [
        torch.optim.SparseAdam([model.table.weight], lr=LEARNING_RATE),
        torch.optim.Adam(dense, lr=LEARNING_RATE),
    ]
    loss_of = nn.BCEWithLogitsLoss()
    turn = 0

    def train(steps):
        nonlocal turn
        for _ in range(steps):
            batch = turn % len(ids)
            turn += 1
            loss = loss_of(model(ids[batch]), labels[batch])
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()

    take_turns(train)


if __name__ == "__main__":
    main()
