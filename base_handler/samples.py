"""Single samples to batches and back.

A sample is a tensor (or its raw value); a tuple of them for a model with several inputs, or a dict for one
with named inputs. The model's output may have the same forms.
"""

from collections.abc import Mapping

import torch


def value_of(row):
    """The client's input: the request's `data` or `body`, or all fields of another form."""
    for name in ("data", "body"):
        if name in row:
            return row[name]
    return row


def to_tensors(value):
    return _map(lambda leaf: leaf if torch.is_tensor(leaf) else torch.as_tensor(leaf), value)


def to_plain(value):
    """A sample's output as a value that JSON can represent."""
    return _map(lambda leaf: leaf.tolist() if torch.is_tensor(leaf) else leaf, value)


def alike(prepared):
    """The indices of samples that can be stacked, group by group; those that are None are in no group."""
    groups = {}
    for index, sample in enumerate(prepared):
        if sample is not None:
            groups.setdefault(_signature(sample), []).append(index)
    return list(groups.values())


def stack(prepared, device):
    """One batch of samples that are alike, on the device."""
    first = prepared[0]
    if isinstance(first, Mapping):
        return {name: stack([sample[name] for sample in prepared], device) for name in first}
    if isinstance(first, tuple):
        return tuple(stack(list(column), device) for column in zip(*prepared, strict=True))
    return torch.stack(prepared).to(device)


def call(model, batch):
    if isinstance(batch, dict):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def split(output, count):
    """The output of each sample, on the CPU. Raises ValueError if the model gave another number of them."""
    if isinstance(output, Mapping):
        columns = {name: split(column, count) for name, column in output.items()}
        return [{name: column[index] for name, column in columns.items()} for index in range(count)]
    if isinstance(output, tuple | list):
        return list(zip(*(split(column, count) for column in output), strict=True))
    if len(output) != count:
        raise ValueError(f"the model's output has {len(output)} rows for {count} samples")
    return list(output.detach().cpu())


def _map(convert, value):
    if isinstance(value, Mapping):
        return {name: _map(convert, part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_map(convert, part) for part in value)
    return convert(value)


def _signature(sample):
    if isinstance(sample, Mapping):
        return tuple((name, _signature(part)) for name, part in sample.items())
    if isinstance(sample, tuple):
        return tuple(_signature(part) for part in sample)
    return sample.shape, sample.dtype
