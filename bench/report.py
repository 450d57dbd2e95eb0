"""The figures of bench/run as lines of a table: for a terminal, and as Markdown for docs/performance.md."""
import rows

UNITS = ((1e6, "ms"), (1e3, "us"))


def number(value):
    if value is None:
        return "-"
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table_lines(row, results):
    yield f"{row.name}: {row.title}"
    for result in results:
        if result["ours"] is None:
            yield f"  {result['figure']:34} not measured: what it needs is not on this machine"
            continue
        spread = result["ours_spread"] / result["ours"] * 100 if result["ours"] else 0
        ours = f"{number(result['ours'])} {result['unit']}"
        peer, ratio = number(result["peer"]), "-"
        if result["ratio"] is not None:
            ratio = f"{number(result['ratio'])}x"
        name = result["peer_case"].split(":")[0]
        if name and result["peer"] is None:
            name = rows.INSTALL
        verdict = {True: "met", False: "NOT MET", None: ""}[result["met"]]
        yield (f"  {result['figure']:34} {ours:>14} +-{spread:3.0f}% {peer:>12} {name:10} {ratio:>8}  "
               f"{result['target'] or '':16} {verdict}").rstrip()


def quantity(value, unit):
    """Nanoseconds in the unit that a person would use."""
    if value is None:
        return "-"
    if unit == "ns":
        for size, name in UNITS:
            if value >= 10 * size:
                return f"{number(value / size)} {name}"
    return f"{number(value)} {unit}"


def markdown_lines(row, results):
    yield f"### {row.name}: {row.title}"
    yield ""
    yield "| figure | guestmem | spread | peer | | peer / guestmem | target | |"
    yield "| --- | ---: | ---: | ---: | --- | ---: | --- | --- |"
    for result in results:
        spread = f"{result['ours_spread'] / result['ours']:.0%}" if result["ours"] else ""
        name = result["peer_case"].split(":")[0]
        ratio = f"{number(result['ratio'])}" if result["ratio"] is not None else ""
        yield "| " + " | ".join([
            result["figure"], quantity(result["ours"], result["unit"]), spread,
            quantity(result["peer"], result["unit"]) if name else "", result["peer_case"].replace(":", " ", 1), ratio,
            result["target"] or "", {True: "met", False: "**not met**", None: ""}[result["met"]]]) + " |"
    yield ""
