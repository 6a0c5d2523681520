"""What is done to each peer, and how much of it."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """One figure. `kind` is a method of a peer, `unit` what the figure counts."""

    name: str
    title: str
    kind: str
    arguments: tuple
    unit: str
    size: int = 0
    synced_only: bool = False


def append(products, size, records, batch=64 * 1024):
    """Appends of batches to products in turn, 16 at once."""
    value = "100 B" if size == 100 else "1 KiB"
    where = "1 product" if products == 1 else f"{products:,} products"
    batches = "1 MiB" if batch == 1 << 20 else "64 KiB"
    name = f"append-{products}-{size}" + ("" if batch == 64 * 1024 else "-large")
    return Workload(name, f"append, {where}, {value}, batches of {batches}", "append",
                    (products, size, batch, records), "MB/s", size)


def workloads(quick):
    """All of them; the quick ones only show that everything runs."""
    megabytes = 4 if quick else 512

    def records(size, share=1.0):
        return int(megabytes * share * 1e6) // size

    many = (1, 1000) if quick else (1, 100, 1000)
    found = [append(products, size, records(size, 0.25 if size == 100 else 1.0))
             for size in (100, 1024) for products in many if not (quick and size == 1024 and products > 1)]
    found.append(append(1, 1024, records(1024), 1 << 20))
    found.append(Workload("depth-1", "append, one record of 1 KiB at a time", "depth_one",
                          (1024, 200 if quick else 5000), "acks/s", 1024))
    for readers in (1, 10, 100):
        count = 300 if quick else 10_000
        found.append(Workload(f"fan-out-{readers}", f"1,000 records/s of 100 B to {readers} readers, p99", "fan_out",
                              (readers, 1000, 100, count), "ms", 100))
    for size in (100, 1024):
        value = "100 B" if size == 100 else "1 KiB"
        found.append(Workload(f"catch-up-{size}", f"one reader from the beginning, {value}", "catch_up",
                              (size, records(size, 0.25 if size == 100 else 1.0)), "MB/s", size))
    if quick:
        found = [replace(it, synced_only=it.name not in ("append-1-100", "depth-1")) for it in found]
    return found


def figure(workload, sample):
    """The figure of a workload, from a sample."""
    rate = sample["records"] / max(sample["seconds"], 1e-9)
    if workload.unit == "MB/s":
        return rate * workload.size / 1e6
    if workload.unit == "ms":
        return sample["p99_us"] / 1e3
    return rate
