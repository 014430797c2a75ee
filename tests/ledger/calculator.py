"""Every figure of the books, computed from what went in: facts about machines (JSON) and the very files that were imported.

Written from docs/ledger.md ("How an instance is billed", "What comes from outside"), in exact fractions and with nothing but Python's own library: no
line of it is shared with the ledger. `calculator.rs` beside it holds the ledger's postings, views and reports against it, to the micro-dollar.

    calculator.py HISTORY.json > FIGURES.json
"""
import csv
import json
import sys
from calendar import monthrange
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

HOUR, DAY, MINUTE = 3_600_000, 86_400_000, 60_000
USE = ["pod", "double-running", "lost-work", "boot", "idle", "drain"]
TEN_DECIMALS = 10**10


def half_even(amount):
    """A fraction of micro-dollars as whole ones."""
    return round(Fraction(amount))  # Python's own rounding is half to even


def floor(amount):
    return amount.numerator // amount.denominator


def overlap(a, b, c, d):
    return max(min(b, d) - max(a, c), 0)


def ms(text):
    text = text.replace(" UTC", "").replace("Z", "").replace(" ", "T")
    at = datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    return (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)


def day_of(at):
    return at // DAY


def parted(amount, weights):
    """Whole parts of an amount by weight: what is left goes to the largest remainders, in the order given. Of a negative one, as of its opposite."""
    if amount < 0:
        return [-part for part in parted(-amount, weights)]
    total = max(sum(weights), 1)
    exact = [Fraction(amount * weight, total) for weight in weights]
    parts = [floor(part) for part in exact]
    order = sorted(range(len(weights)), key=lambda n: (parts[n] - exact[n], n))
    for n in order[: amount - sum(parts)]:
        parts[n] += 1
    return parts


def rounded_sums(amounts):
    """Each amount as the difference of the rounded running total, so that nothing is lost."""
    total, parts = Fraction(0), []
    for amount in amounts:
        before = half_even(total)
        total += amount
        parts.append(half_even(total) - before)
    return parts


class Machine:
    def __init__(self, facts, others):
        self.facts = facts
        self.start = facts["from_ms"]
        self.end = max(facts["to_ms"], self.start)
        self.ran = self.end - self.start
        self.billed = max(self.ran, MINUTE)
        spot = facts["capacity_type"] == "spot"
        self.waived = spot and facts["ended_by"] == "ec2-interruption" and self.ran < HOUR
        self.hours = range((self.billed + HOUR - 1) // HOUR)
        self.pods = [self.pod(pod, others) for pod in facts["pods"]]
        self.used_elsewhere = {}

    def span(self, hour):
        start = self.start + hour * HOUR
        return start, min(start + HOUR, self.start + self.billed)

    def price(self, hour):
        seen = [h for h in self.facts["hours"] if h["hour"] <= hour]
        return max(seen, key=lambda h: h["hour"])["price"] if seen else self.facts["price"]

    def on_demand(self, hour):
        seen = [h for h in self.facts["hours"] if h["hour"] <= hour and h["on_demand"] is not None]
        known = max(seen, key=lambda h: h["hour"])["on_demand"] if seen else self.facts["on_demand"]
        return self.price(hour) if known is None and self.facts["capacity_type"] == "on-demand" else known

    def length(self, hour):
        start, end = self.span(hour)
        return 0 if self.waived else end - start

    def pod(self, pod, others):
        """A pod's time here: useful until its replacement ran as well, or until its work was lost with the machine."""
        start = max(pod["from_ms"], self.start)
        end = max(min(self.end if pod["to_ms"] is None else pod["to_ms"], self.end), start)
        lost = end
        if pod["kind"] == "batch" and self.facts["ended_by"] in ("ec2-interruption", "unknown") and end >= self.end:
            lost = max([at for at in pod["checkpoints"] if start <= at <= end], default=start)
        doubled = []
        for move in others["moves"]:
            if move["pod"] != pod["uid"] or move["from_claim"] != self.facts["claim"]:
                continue
            for target in others["machines"]:
                if target["claim"] != move["to_claim"]:
                    continue
                for new in target["pods"]:
                    began = max(new["from_ms"], target["from_ms"])
                    if new["workload"] == pod["workload"] and new["uid"] != pod["uid"] and began >= move["decided_ms"]:
                        doubled.append(began)
        both = min([at for at in doubled if at < end], default=end)
        both = min(max(both, start), lost)
        return {**pod, "start": start, "both": both, "lost": lost, "end": end}

    def shares(self, hour):
        """Who used the hour: (day, line, pod, GPU milliseconds, milliseconds), in the order in which left-over micro-dollars are given."""
        start, end = self.span(hour)
        gpus = max(self.facts["gpus"], 1)
        first = min((pod["start"] for pod in self.pods), default=None)
        last = max((pod["end"] for pod in self.pods), default=None)
        found = []
        for day in range(day_of(start), day_of(end - 1) + 1):
            a, b = max(start, day * DAY), min(end, (day + 1) * DAY)
            used = 0
            for pod in self.pods:
                for line, p, q in (("pod", "start", "both"), ("double-running", "both", "lost"), ("lost-work", "lost", "end")):
                    held = overlap(a, b, pod[p], pod[q])
                    used += held * pod["gpus"]
                    found.append((day, line, pod["uid"], held * pod["gpus"], held))
            if first is None:
                rest = [("boot", b - a), ("idle", 0), ("drain", 0)]
            else:
                rest = [("boot", overlap(a, b, a, first)), ("idle", overlap(a, b, first, last)), ("drain", overlap(a, b, last, b))]
            for line, held in rest:
                weight = gpus * held - (used if line == "idle" else 0)
                found.append((day, line, "", max(weight, 0), 0))
        found = [share for share in found if share[3] > 0]
        return sorted(found, key=lambda share: (share[0], USE.index(share[1]), share[2]))

    def computed(self):
        costs = rounded_sums([Fraction(self.price(h) * self.length(h), HOUR) for h in self.hours])
        known = [h for h in self.hours if self.on_demand(h) is not None]
        b0 = dict(zip(known, rounded_sums([Fraction(self.on_demand(h) * self.length(h), HOUR) for h in known])))
        return costs, b0

    def cut(self):
        """The hours, and those that lie in two months cut at midnight of the 1st: (hour, start, end)."""
        found = []
        for h in self.hours:
            start, end = self.span(h)
            midnight = (end - 1) // DAY * DAY
            if midnight > start and month(start) != month(midnight):
                found += [(h, start, midnight), (h, midnight, end)]
            else:
                found.append((h, start, end))
        return found

    def laid(self, line):
        """A line of the bill over what it speaks of: by what was computed for it, by time where nothing was; ten decimals, half up. {part: (units, span)}."""
        cut = self.cut()
        held = {n: overlap(a, b, line["from"], line["to"]) for n, (_, a, b) in enumerate(cut)}
        held = {n: time for n, time in held.items() if time > 0}
        if not held:
            within = [n for n, (_, a, b) in enumerate(cut) if a <= line["from"] < b]
            n = within[0] if within else (0 if line["from"] < self.start else len(cut) - 1)
            return {n: (line["units"], cut[n][1:])}
        weight = {n: self.price(cut[n][0]) * time for n, time in held.items()}
        laid = {}
        for n, part in self.running(line["units"], weight if sum(weight.values()) else held).items():
            laid[n] = (part, (max(cut[n][1], line["from"]), min(cut[n][2], line["to"])))
        return laid

    @staticmethod
    def running(units, weight):
        """An amount by weight, as differences of its rounded running share."""
        whole, given, so_far, parts = sum(weight.values()), 0, 0, {}
        for n in sorted(weight):
            so_far += weight[n]
            up_to = half_away(Fraction(units * so_far, whole))
            parts[n] = up_to - given
            given = up_to
        return parts

    def said(self, lines):
        """What feed or bill say: {part of an hour: (source, micro-dollars, of them covered by no line, nothing was billed)}, what stands beside:
        [(hour, days, the lines' own day, line, micro-dollars)], and use that is billed in another month: {(hour, day, line): micro-dollars}."""
        cut = self.cut()
        feed, bill, spans, used = defaultdict(int), defaultdict(int), defaultdict(list), defaultdict(int)
        on_feed, on_bill, beside = set(), set(), defaultdict(lambda: defaultdict(int))
        away, lasted = defaultdict(lambda: defaultdict(int)), {}
        long = defaultdict(int)
        for line in lines:
            if line["source"] == "bill" and line["line"] == "use" and line["to"] - line["from"] > HOUR:
                long[line["from"], line["to"]] += line["used"]
        partly = defaultdict(int)
        for (a, b), hours in list(long.items()):
            held = {n: overlap(x, y, a, b) for n, (_, x, y) in enumerate(cut)}
            if max(hours, 0) < sum(held.values()) - 2_000:
                # Less use than the machine had: nobody can say which part.
                for n, part in self.running(max(hours, 0), held).items():
                    partly[n] += part
            else:
                del long[a, b]
        for line in lines:
            if line["source"] == "feed":
                hour = min(max((line["from"] + 5 * MINUTE - self.start) // HOUR, 0), self.hours[-1])
                held = {n: b - a for n, (h, a, b) in enumerate(cut) if h == hour}
                for n, part in self.running(line["units"], held).items():
                    feed[n] += part
                    on_feed.add(n)
                continue
            for n, (units, span) in self.laid(line).items():
                _, a, b = cut[n]
                far = not a <= line["from"] < b and not overlap(a, b, line["from"], line["to"]) and month(line["from"]) != month(a)
                if line["line"] == "use" and far:
                    away[n][day_of(line["from"])] += units
                    first, last = lasted.get((n, day_of(line["from"])), (line["from"], line["to"]))
                    lasted[n, day_of(line["from"])] = (min(first, line["from"]), max(last, line["to"]))
                elif line["line"] == "use":
                    bill[n] += units
                    on_bill.add(n)
                    if (line["from"], line["to"]) not in long:
                        spans[n].append(span)
                else:
                    beside[line["line"]][n, day_of(line["from"]) if far else -1] += units
        closed = {month(line["from"]) for line in lines if line["source"] == "bill" and line["line"] == "use" and line["invoiced"]}
        parts, amounts, uncovered, lineless, free = [], [], [], set(), set()

        def elsewhere(n):
            for day in sorted(away[n]):
                parts.append(((n, day), "bill"))
                amounts.append(Fraction(away[n][day], 10_000))
                uncovered.append(Fraction(0))

        for hour in self.hours:
            of_hour = [n for n, part in enumerate(cut) if part[0] == hour]
            on_a_bill = any(n in on_bill or month(cut[n][1]) in closed for n in of_hour)
            if on_a_bill or (any(away[n] for n in of_hour) and not any(n in on_feed for n in of_hour)):
                for n in of_hour:
                    _, start, end = cut[n]
                    open_ms = 0
                    if month(start) not in closed:
                        # What lies in a month without an invoice may still be billed.
                        covered = sum(max(min(y, end) - max(x, start), 0) for x, y in merged(spans[n]))
                        open_ms = max(end - start - covered - partly[n], 0)
                    rest = 0 if self.waived else self.price(hour) * open_ms * 10_000 // HOUR
                    parts.append((n, "bill"))
                    amounts.append(Fraction(bill[n] + rest, 10_000))
                    uncovered.append(Fraction(rest, 10_000))
                    if n not in on_bill:
                        lineless.add(n)
                        if month(start) in closed and not self.waived:
                            free.add(n)
                    elsewhere(n)
            elif any(n in on_feed for n in of_hour):
                for n in of_hour:
                    parts.append((n, "feed"))
                    amounts.append(Fraction(feed[n], 10_000))
                    uncovered.append(Fraction(0))
                    elsewhere(n)
        truths, far_use = {}, defaultdict(int)
        for (n, source), micro, held in zip(parts, rounded_sums(amounts), rounded_sums(uncovered)):
            if isinstance(n, tuple):
                # Nobody ran then: before the machine began it is boot, after its end drain.
                hour, a, _ = cut[n[0]]
                line = "boot" if n[1] < day_of(a) else "drain"
                far_use[hour, n[1], line] += micro
                # Its time is that of the bill's lines, an hour of it.
                first, last = lasted[n]
                self.used_elsewhere[hour, n[1], line] = (first, min(last, first + HOUR))
                continue
            # What no line speaks of is all open, as far as it is not free.
            truths[n] = (source, micro, micro if n in lineless else held, n in free)
        others = []
        for line, units in beside.items():
            places = sorted(units)
            for (n, day), amount in zip(places, rounded_sums([Fraction(units[place], 10_000) for place in places])):
                if amount:
                    hour, a, b = cut[n]
                    others.append((hour, range(day_of(a), day_of(b - 1) + 1), day, line, amount))
        return truths, others, far_use

    def figures(self, lines):
        """Rows of (hour, day, line, pod): GPU milliseconds, cost, B0, B1, B2, by the feed, by the bill; and the cost of which B0, B1 and B2 are not known."""
        costs, b0s = self.computed()
        truths, beside, far_use = self.said(lines)
        pods = {pod["uid"]: pod for pod in self.pods}
        rows = defaultdict(lambda: [0] * 10)
        cut = self.cut()
        for hour in self.hours:
            shares = self.shares(hour)
            b0 = parted(b0s[hour], [share[3] for share in shares]) if hour in b0s else [None] * len(shares)
            of_hour = [n for n, part in enumerate(cut) if part[0] == hour]
            if of_hour[0] not in truths:
                split = [("computed", cost, 0, False) for cost in parted(costs[hour], [share[3] for share in shares])]
            else:
                split = []
                for n in of_hour:
                    # Each month of an hour has its own amount.
                    weights = [share[3] for share in shares if month(share[0] * DAY) == month(cut[n][1])]
                    source, amount, uncovered, free = truths[n]
                    split += [(source, cost, opened, free) for cost, opened in zip(parted(amount, weights), parted(uncovered, weights))]
            for n, ((day, line, pod, weight, held), (source, cost, opened, free)) in enumerate(zip(shares, split)):
                row = rows[hour, day, line, pod]
                rate = lambda name: half_even(Fraction((pods[pod][name] or 0) * held, HOUR)) if line == "pod" else 0
                baselines = [0, 0, 0] if free else [b0[n] or 0, rate("b1"), rate("b2")]
                add = [weight, cost, *baselines, cost if source == "feed" else 0, cost - opened if source == "bill" else 0]
                add.append(cost if free or b0[n] is None else 0)
                add += [cost if line == "pod" and (free or pods[pod][name] is None) else 0 for name in ("b1", "b2")]
                rows[hour, day, line, pod] = [old + new for old, new in zip(row, add)]
            for _, days, own_day, line, amount in [entry for entry in beside if entry[0] == hour]:
                users = [share for share in shares if share[0] in days]
                for (day, _, pod, *_), cost in zip(users, parted(amount, [share[3] for share in users])):
                    key = (hour, day if own_day < 0 else own_day, line, pod)
                    row = rows[key]
                    rows[key] = [row[0], row[1] + cost, *row[2:6], row[6] + cost, *row[7:]]
        for (hour, day, line), cost in far_use.items():
            row = rows[hour, day, line, ""]
            rows[hour, day, line, ""] = [row[0], row[1] + cost, *row[2:6], row[6] + cost, *row[7:]]
        for pod in self.pods:
            if pod["carried_gib"]:
                hour = (pod["start"] - self.start) // HOUR
                rows[hour, day_of(pod["start"]), "egress", pod["uid"]][1] += pod["carried_gib"] * pod["carried_price"]
        return {key: row for key, row in rows.items() if any(row)}


def merged(spans):
    found = []
    for a, b in sorted(spans):
        if found and a <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], b))
        else:
            found.append((a, b))
    return found


def month(at):
    return (datetime(1970, 1, 1) + timedelta(milliseconds=at)).strftime("%Y-%m")


def units(text):
    return int(Decimal(text.replace(" USD", "")) * TEN_DECIMALS)


class Rates:
    """Dollars for a unit of a currency: the last rate on or before the day."""

    def __init__(self, file):
        self.rates = defaultdict(dict)
        for row in csv.DictReader(open(file, newline="")):
            self.rates[row["currency"]][ms(row["day"])] = Decimal(row["usd_per_unit"])

    def units(self, amount, currency, at):
        """An amount in dollars with ten decimals."""
        if currency in ("", "USD"):
            return units(amount)
        rates = self.rates[currency]
        rate = rates[max(day for day in rates if day <= at)]
        return half_away(Fraction(units(amount)) * Fraction(rate))


def half_away(amount):
    """Whole, and half away from nothing."""
    return floor(amount + Fraction(1, 2)) if amount >= 0 else -floor(-amount + Fraction(1, 2))


def of_gateway(row, amount, used):
    """Our machines' parts of a line of a gateway: of the share that its tag says, by the billed time of each in the same account and span."""
    share = Fraction(Decimal(row.get("resource_tags_user_lowtide_share") or 0)) / 100
    ours = sorted(used[row["line_item_usage_account_id"], row["line_item_usage_start_date"], row["line_item_usage_end_date"]].items())
    whole, so_far, given = sum(held for _, held in ours), 0, 0
    for instance, held in ours:
        so_far += held
        up_to = half_away(amount * share * so_far / whole)
        yield instance, up_to - given
        given = up_to


def bill_lines(files, known, rates):
    """The last version's lines, each once by its identity; lines of one kind about one span are one. Of gateways that our machines use, their parts."""
    seen, added, hours, invoiced = {}, defaultdict(int), defaultdict(int), []
    for name in files:
        for row in csv.DictReader(open(name, newline="")):
            seen[row["identity_line_item_id"], row["line_item_line_item_type"]] = row
    used = defaultdict(lambda: defaultdict(int))
    for row in seen.values():
        kind = row["line_item_line_item_type"]
        is_use = kind in ("SavingsPlanCoveredUsage", "DiscountedUsage") or (kind == "Usage" and "SpotUsage" in row["line_item_usage_type"])
        if is_use and row["line_item_resource_id"] in known:
            of_span = used[row["line_item_usage_account_id"], row["line_item_usage_start_date"], row["line_item_usage_end_date"]]
            of_span[row["line_item_resource_id"]] += half_away(Fraction(Decimal(row["line_item_usage_amount"])) * HOUR)
    for row in seen.values():
        kind, usage = row["line_item_line_item_type"], row["line_item_usage_type"]
        if "natgateway/" in row["line_item_resource_id"]:
            line = "credit" if kind == "Credit" else "nat" if "NatGateway" in usage else "transfer"
            a, b = ms(row["line_item_usage_start_date"]), ms(row["line_item_usage_end_date"])
            cost = rates.units(row["line_item_unblended_cost"], row["line_item_currency_code"], a)
            for instance, part in of_gateway(row, cost, used):
                if part:
                    added[instance, line, False, usage, row["line_item_operation"], a, b] += part
            continue
        if not row["line_item_resource_id"].startswith("i-"):
            continue
        invoiced.append(row["bill_invoice_id"] != "")
        cost, net, line = row["line_item_unblended_cost"], row.get("line_item_net_unblended_cost") or "", "use"
        if kind in ("Credit", "Refund", "Tax"):
            line = kind.lower()
        elif kind.endswith("Discount"):
            # Where there are net columns, discounts are in them.
            cost, net, line = net or cost, "", "discount"
        elif kind == "SavingsPlanCoveredUsage":
            cost, net = row["savings_plan_savings_plan_effective_cost"], row.get("savings_plan_net_savings_plan_effective_cost") or ""
        elif kind == "DiscountedUsage":
            cost, net = row["reservation_effective_cost"], row["reservation_net_effective_cost"]
        elif "Bytes" in usage:
            line = "transfer"
        a, b = ms(row["line_item_usage_start_date"]), ms(row["line_item_usage_end_date"])
        covered = kind in ("SavingsPlanCoveredUsage", "DiscountedUsage")
        key = (row["line_item_resource_id"], line, covered, usage, row["line_item_operation"], a, max(a, b))
        cost = rates.units(cost, row["line_item_currency_code"], a)
        added[key] += cost
        if net:
            # A negotiated discount has a line of its own: the cost before it stays what the machine cost.
            off = (row["line_item_resource_id"], "discount", False, usage, row["line_item_operation"], a, max(a, b))
            added[off] += rates.units(net, row["line_item_currency_code"], a) - cost
        if line == "use":
            hours[key] += half_away(Fraction(Decimal(row["line_item_usage_amount"])) * HOUR)
    closed = bool(invoiced) and all(invoiced)
    lines = defaultdict(list)
    for key, amount in added.items():
        instance, line, _, _, _, a, b = key
        lines[instance].append({"source": "bill", "line": line, "from": a, "to": b, "units": amount, "used": hours[key], "invoiced": closed and month(a) == "2026-07"})
    return lines


def feed_lines(files):
    lines = defaultdict(list)
    for name in files:
        for text in open(name):
            if not text.startswith("#"):
                at, _, _, instance, _, _, _, charge, _ = text.rstrip("\n").split("\t")
                lines[instance].append({"source": "feed", "line": "use", "from": ms(at), "units": units(charge), "invoiced": False})
    return lines


def over_days(period, micro):
    """A day's amount, or a month's over its days: differences of the running part, cut down towards nothing."""
    if len(period) == 10:
        return {day_of(ms(period)): micro}
    year, number = map(int, period.split("-"))
    days = monthrange(year, number)[1]
    up_to = [int(Fraction(micro * n, days)) for n in range(days + 1)]
    first = day_of(ms(f"{period}-01"))
    return {first + n: up_to[n + 1] - up_to[n] for n in range(days)}


def entered(files, column, rates):
    for name in files:
        for row in csv.DictReader(open(name, newline="")):
            first = ms(row["period"] if len(row["period"]) == 10 else row["period"] + "-01")
            micro = half_even(Fraction(rates.units(row[column], row.get("currency") or "", first), 10_000))
            for day, part in over_days(row["period"], micro).items():
                yield day, row, part


def of_focus(files, rates):
    """What FOCUS files say by day: the effective cost over its span by time, cut down towards nothing, and the rest on the last day."""
    for name in files:
        for row in csv.DictReader(open(name, newline="")):
            a, b = ms(row["ChargePeriodStart"]), ms(row["ChargePeriodEnd"])
            micro = half_even(Fraction(rates.units(row["EffectiveCost"], row["BillingCurrency"], a), 10_000))
            tags, given = json.loads(row["Tags"]), 0
            days = range(day_of(a), day_of(b - 1) + 1)
            for day in days:
                end = min((day + 1) * DAY, b)
                up_to = micro if day == days[-1] else int(Fraction(micro * (end - a), b - a))
                yield day, {"team": tags.get("Squad", ""), "workload": tags.get("app", ""), "item": "AI Vendor: Chat model"}, up_to - given
                given = up_to


def retagged(facts, workload, team, day):
    """The team that pays for a workload's day: what people said of it last, else its own label."""
    for retag in facts["retags"]:
        if retag["workload"] == workload and retag["from_day"] <= day < retag["to_day"]:
            team = retag["team"]
    return team


def clock_hours(start, length, amount):
    """An amount over the clock hours that its time lies in."""
    if length == 0:
        yield start // HOUR, Fraction(amount)
        return
    for hour in range(start // HOUR, (start + length - 1) // HOUR + 1):
        yield hour, Fraction(amount * overlap(start, start + length, hour * HOUR, (hour + 1) * HOUR), length)


def books(facts):
    rates = Rates(facts["rates"])
    lines = bill_lines(facts["bill"], set(facts["known"]), rates)
    for instance, more in feed_lines(facts["feed"]).items():
        lines[instance] += more
    shares, daily, hourly = {}, defaultdict(lambda: [0] * 8), defaultdict(Fraction)
    for machine_facts in facts["machines"]:
        machine = Machine(machine_facts, facts)
        pods = {pod["uid"]: pod for pod in machine.pods}
        bought = machine_facts["bought_for"]
        for (hour, day, line, pod), row in machine.figures(lines[machine_facts["instance"]]).items():
            shares["/".join([machine_facts["claim_uid"], str(hour), str(day), line, pod])] = row[:7]
            owner = pods[pod] if pod else bought
            team = retagged(facts, owner["workload"], owner["team"], day) if owner else None
            sums = daily[f"{day}/{team or '-'}/{line}"]
            daily[f"{day}/{team or '-'}/{line}"] = [old + new for old, new in zip(sums, row[:5] + row[7:])]
            start, end = machine.span(hour)
            a, b = (pods[pod]["start"],) * 2 if line == "egress" else (max(start, day * DAY), min(end, (day + 1) * DAY))
            if not day_of(start) <= day <= day_of(end - 1):
                # Billed in another month than the machine ran in: use at its time, the rest at the day's start.
                a, b = machine.used_elsewhere.get((hour, day, line), (day * DAY,) * 2)
            if owner:
                for at, part in clock_hours(a, b - a, row[1]):
                    hourly[owner["workload"], at] += part
    others, billed = defaultdict(int), defaultdict(int)
    for day, row, micro in list(entered(facts["costs"], "cost_usd", rates)) + list(of_focus(facts["focus"], rates)):
        others[month(day * DAY)] += micro
        sums = daily[f"{day}/{row['team'] or '-'}/overhead"]
        daily[f"{day}/{row['team'] or '-'}/overhead"] = [sums[0], sums[1] + micro, *sums[2:]]
        if row["workload"]:
            billed[row["workload"], day, row["item"]] += micro
            for at, part in clock_hours(day * DAY, DAY, micro):
                hourly[row["workload"], at] += part
    revenue = defaultdict(int)
    earned = defaultdict(int)
    for day, row, micro in entered(facts["revenue"], "revenue_usd", rates):
        revenue[f"{day}/{row['workload']}"] += micro
        earned[month(day * DAY)] += micro
    per_unit = {}
    for name in facts["usage"]:
        for row in csv.DictReader(open(name, newline="")):
            cost, count = per_unit.get(row["workload"], (Fraction(0), 0))
            at = ms(row["hour"]) // HOUR
            # An hour that cost nothing is in no report.
            if (row["workload"], at) in hourly:
                per_unit[row["workload"]] = (cost + hourly[row["workload"], at], count + int(row["requests"]))
    return {
        "shares": shares,
        "daily": {key: sums[:5] for key, sums in daily.items() if any(sums[:5])},
        "savings": savings(daily),
        "ai_cost": ai_cost(daily, others, earned),
        "economics": economics(facts, hourly, {key[:2] for key, micro in billed.items() if micro}),
        "revenue": {key: micro for key, micro in revenue.items() if micro},
        "hourly": {f"{workload} {hour}": float(cost / 10**6) for (workload, hour), cost in hourly.items() if cost},
        "per_unit": {workload: [str(float(cost / 10**6)), str(float(cost / count / 10**6)) if count else None] for workload, (cost, count) in per_unit.items()},
    }


def ai_cost(daily, others, earned):
    """By month: machines with what the bill gives back on them, vendors' APIs, transfer, storage, the rest, all of it, what was earned, and what is left."""
    found = defaultdict(lambda: [0] * 5)
    for key, sums in daily.items():
        day, _, line = key.split("/")
        place = 0 if line in USE or line in ("credit", "refund", "discount") else 2 if line in ("egress", "transfer", "nat") else 3 if line == "volume" else 4
        if line != "overhead":
            found[month(int(day) * DAY)][place] += sums[1]
    for of_month, micro in others.items():
        found[of_month][1] += micro
    rows = {}
    for of_month in set(found) | set(earned):
        parts = found[of_month]
        if any(parts):
            cost, made = sum(parts), earned.get(of_month, 0)
            rows[of_month] = [*parts, cost, made, made - cost if of_month in earned else 0]
    return rows


def economics(facts, hourly, billed):
    """By month and endpoint: dollars by request, by 1,000 tokens in and by 1,000 tokens out, each over the hours in which they are known. Of what a vendor
    produced only on days for which the workload has a vendor's bill (`billed`)."""
    counts = defaultdict(lambda: [None] * 3)
    for name in facts["usage"]:
        for row in csv.DictReader(open(name, newline="")):
            counts[row["workload"], ms(row["hour"]) // HOUR][0] = Fraction(int(row["requests"]))
    for name in facts["vendor"]:
        for bucket in json.load(open(name))["data"]:
            first, last = bucket["start_time"] // 3_600, bucket["end_time"] // 3_600
            for result in bucket["results"]:
                said = [result["num_model_requests"], result["input_tokens"], result["output_tokens"]]
                for place, amount in enumerate(said):
                    # Evenly over the hours, in millionths.
                    up_to = [amount * 10**6 * n // (last - first) for n in range(last - first + 1)]
                    for n in range(last - first):
                        if (facts["vendor_workload"], (first + n) // 24) not in billed:
                            continue
                        counts[facts["vendor_workload"], first + n][place] = Fraction(up_to[n + 1] - up_to[n], 10**6)
    sums = defaultdict(lambda: [[Fraction(0), Fraction(0)] for _ in range(3)])
    for (workload, hour), known in counts.items():
        if (workload, hour) in hourly:
            for place, amount in enumerate(known):
                if amount is not None:
                    of = sums[f"{month(hour * HOUR)} {workload}"][place]
                    of[0] += hourly[workload, hour]
                    of[1] += amount
    by = [1, 1000, 1000]
    each = {key: [float(cost / amount / 10**6 * by[n]) if amount else None for n, (cost, amount) in enumerate(of)] for key, of in sums.items()}
    return {key: figures for key, figures in each.items() if any(figure is not None for figure in figures)}


def savings(daily):
    """By day and team, of machines alone: spend, and what it is less than B0, B1 and B2, as far as each of them is known."""
    found = defaultdict(lambda: [0] * 4)
    for key, (_, cost, b0, b1, b2, no_b0, no_b1, no_b2) in daily.items():
        day, team, line = key.split("/")
        if line in USE or line == "egress":
            sums = found[f"{day}/{team}"]
            found[f"{day}/{team}"] = [old + new for old, new in zip(sums, [cost, b0 - cost + no_b0, b1 - cost + no_b1, b2 - cost + no_b2])]
    return {key: sums for key, sums in found.items() if any(sums)}


if __name__ == "__main__":
    with open(sys.argv[1]) as history:
        json.dump(books(json.load(history)), sys.stdout)
