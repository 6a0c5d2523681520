"""The result for people: tables in Markdown, a plot in SVG."""

from xml.sax.saxutils import escape

CLASSES = {
    "synced": "Every acknowledged record is synced to disk",
    "unsynced": "Acknowledged before it is synced",
}
BUSY = 0.3


def failures(result):
    """One line for each step that did not work."""
    found = []
    for name, entry in result["peers"].items():
        if "failed" in entry:
            found.append(f"{name}: {entry['failed']}")
        for kind, there in entry["classes"].items():
            for it in there["rounds"]:
                if "failed" in it:
                    found.append(f"{name}, {kind}: {it['failed']}")
                steps = {**it["samples"], "sync_calls": it.get("sync_calls") or {}}
                found += [f"{name}, {kind}, {step}: {sample['failed']}" for step, sample in steps.items()
                          if "failed" in sample]
    return found


def table(result):
    """Everything, in Markdown."""
    machine = result["machine"]
    lines = [
        "# Meshlog beside others", "",
        f"{result['date']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"{machine['file_system']}; load tools on the same machine. Medians of the rounds, (least–most).", "",
    ]
    if result["quick"]:
        lines += ["**A quick run with small volumes: it shows that everything runs, and nothing about speed.**", ""]
    if result["cores_busy_before"] > BUSY:
        lines += [f"**The machine was busy before the run ({result['cores_busy_before']} cores): these are no figures to "
                  "publish.**", ""]
    for kind, title in CLASSES.items():
        entries = {name: entry for name, entry in result["peers"].items() if kind in entry["classes"]}
        if not entries:
            continue
        lines += [f"## {title}", "", "| | " + " | ".join(entries) + " |", "|---|" + "---|" * len(entries)]

        def row(what, cell):
            cells = [cell(entry["classes"][kind]["summary"]) for entry in entries.values()]
            if any(cell != "–" for cell in cells):
                lines.append(f"| {what} | " + " | ".join(cells) + " |")

        lines.append("| version | " + " | ".join(entry.get("version", "–") for entry in entries.values()) + " |")
        lines.append("| a product is | " + " | ".join(entry["product"] for entry in entries.values()) + " |")
        for workload in result["workloads"]:
            row(f"{workload['title']} ({workload['unit']})", lambda it: spread(it[workload["name"]]["figure"]))
        for workload in result["workloads"]:
            if workload["unit"] == "MB/s":
                row(f"CPU s/GB of the broker: {workload['title']}",
                    lambda it: spread(it[workload["name"]]["server_cpu_per_gb"]))
        for workload in result["workloads"]:
            if workload["unit"] == "MB/s":
                row(f"CPU s/GB of the load tool: {workload['title']}",
                    lambda it: spread(it[workload["name"]]["client_cpu_per_gb"]))
        row("start on nothing (s)", lambda it: spread(it["start_seconds"]))
        row("start on what the run left (s)", lambda it: spread(it["restart_seconds"]))
        row("memory, idle (MB)", lambda it: spread(it["idle_memory"], 1e-6))
        row("memory, after the run (MB)", lambda it: spread(it["loaded_memory"], 1e-6))
        row("proof: syncing calls per 1,000 records acknowledged one at a time", lambda it: spread(it["sync_calls_per_1000"]))
        depth = next((it["name"] for it in result["workloads"] if it["name"] == "depth-1"), None)
        if depth:
            row("proof: flushes of the device per 1,000 of these", lambda it: spread(it[depth]["flushes_per_1000"]))
        lines.append("")
        for name, entry in entries.items():
            lines.append(f"- {name}: " + "; ".join(entry["classes"][kind]["settings"]) + ".")
        lines.append("")
    limits = [it for it in result["limits"] if it and "failed" not in it]
    if limits:
        lines += ["## The machine meanwhile", "", "| round | D (MB/s) | F (syncs/s) | G in (MB/s) | g (calls/s) |",
                  "|---|---|---|---|---|"]
        for number, it in enumerate(limits, 1):
            cells = (it["d_bytes_per_second"] / 1e6, it["f_writes_per_second"], it["g_in_bytes_per_second"] / 1e6,
                     it["g_calls_per_second"])
            lines.append(f"| {number} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
        lines.append("")
    lines += ["## Tried, and not measured", ""]
    lines += [f"- {name}: {why}." for name, why in result["others"].items()]
    failed = failures(result)
    if failed:
        lines += ["", "## Failed", ""] + [f"- {line}" for line in failed]
    return "\n".join(lines) + "\n"


def spread(values, factor=1.0):
    """`median (least–most)`, or a dash."""
    if not values:
        return "–"
    middle, least, most = (number(value * factor) for value in values)
    return middle if least == most else f"{middle} ({least}–{most})"


def number(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


COLOURS = {"Meshlog": "#0b6e4f", "Kafka": "#4a4e69", "NATS JetStream": "#2a7fba", "Redis Streams": "#c0392b"}
WIDTH, LEFT, BAR, GAP, TITLE = 760, 150, 16, 5, 24


def plot(result, kind="synced"):
    """One panel for each workload, one bar for each peer."""
    entries = {name: entry["classes"][kind]["summary"] for name, entry in result["peers"].items()
               if kind in entry["classes"] and "summary" in entry["classes"][kind]}
    parts, y = [], 34
    for workload in result["workloads"]:
        values = {name: (summary[workload["name"]]["figure"] or [None])[0] for name, summary in entries.items()}
        known = [value for value in values.values() if value is not None]
        if not known:
            continue
        better = "less is better" if workload["unit"] == "ms" else "more is better"
        parts.append(text(10, y, f"{workload['title']}: {workload['unit']}, {better}", bold=True))
        y += 8
        for name, value in values.items():
            parts.append(text(LEFT - 8, y + BAR - 4, name, anchor="end"))
            if value is None:
                parts.append(text(LEFT, y + BAR - 4, "failed"))
            else:
                width = max(1.0, value / max(known) * (WIDTH - LEFT - 90))
                colour = COLOURS.get(name, "#888888")
                parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
                parts.append(text(LEFT + width + 6, y + BAR - 4, number(value)))
            y += BAR + GAP
        y += TITLE
    note = CLASSES[kind] + ("; a quick run, no figures" if result["quick"] else "")
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
            'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>')
    return "\n".join([head, text(10, 14, note), *parts, "</svg>"]) + "\n"


def text(x, y, words, anchor="start", bold=False):
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{weight} fill="#222222">{escape(words)}</text>'
