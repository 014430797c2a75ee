//! Reads recorded markets: the JSON and CSV forms that published data sets come in.
//!
//! Decides: how polarity, gaps, prices and names of the different forms are understood. Every form it takes is listed at
//! [`load`]; anything else is refused with a sentence.

use super::market::{Market, Zone};
use crate::core::units::ids::{Region, ZoneId};
use crate::core::units::money::{MicroUsd, MicroUsdPerHour};
use crate::core::units::time::Millis;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Why a market could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder is not there.
    #[error("no traces at {0}: expected a folder of recorded spot markets (one JSON or CSV file per zone); name one with --traces DIR")]
    Missing(PathBuf),
    /// The folder holds nothing that can be read as a zone.
    #[error("no zone files in {0}: expected JSON files with \"data\" or CSV files with a `date,availability` header")]
    Empty(PathBuf),
    /// The folder holds several sets.
    #[error("several sets of traces under {0}: {1}; name one of these folders with --traces")]
    Ambiguous(PathBuf, String),
    /// A file could not be understood.
    #[error("{file}: {what}")]
    File {
        /// The file.
        file: PathBuf,
        /// What was expected and what came.
        what: String,
    },
    /// Something the data needs was not given.
    #[error("{zone}: {what}")]
    Zone {
        /// The zone.
        zone: String,
        /// What is missing and which flag gives it.
        what: String,
    },
}

/// Whether `1` in a recording means that instances run or that they are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Default)]
pub enum Polarity {
    /// A number is how many instances the zone can run.
    #[default]
    Available,
    /// 1 means pre-empted (none), 0 means there is room.
    Preempted,
}

/// What the files do not say.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// How to read the numbers.
    pub polarity: Polarity,
    /// Zones to keep, by name, with or without the set's suffix; empty keeps all.
    pub zones: Vec<String>,
    /// The on-demand price of zones that do not state one.
    pub on_demand: Option<MicroUsdPerHour>,
    /// The spot price of zones that do not state one.
    pub spot: Option<MicroUsdPerHour>,
    /// On-demand over spot price, for zones that state no spot price (and $1 for spot, when they state neither).
    pub on_demand_ratio: Option<f64>,
    /// The price of a GiB between regions; without it the table of the set, else the rule of [`aws_egress`].
    pub egress_per_gib: Option<MicroUsd>,
    /// Which sets of a folder of sets to take when it holds several, best first.
    pub prefer: Vec<&'static str>,
    /// Use the span of the longest zone, and count shorter zones as having no capacity after their end.
    pub longest: bool,
}

/// A market and what to tell the reader about it.
#[derive(Debug)]
pub struct Loaded {
    /// The market.
    pub market: Market,
    /// The folder it came from.
    pub from: PathBuf,
    /// Sentences the reader should know.
    pub notes: Vec<String>,
}

/// The longest tick in seconds: a day.
const LONGEST_GAP: i64 = 86_400;
/// The most ticks of a zone: a year of seconds has 32 million. A zone that is recorded by the day is repeated by the second beside one that is.
const MOST_TICKS: i128 = 50_000_000;

#[derive(Deserialize)]
struct PriceInfo {
    price: Option<f64>,
    on_demand_price: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Metadata {
    zone: Option<String>,
    region: Option<String>,
    gap_seconds: Option<f64>,
    on_demand_price: Option<f64>,
    price_info: Option<PriceInfo>,
}

#[derive(Deserialize)]
struct JsonZone {
    metadata: Option<Metadata>,
    data: Vec<f64>,
    prices: Option<Vec<f64>>,
}

/// One zone as its file has it.
struct Raw {
    zone: String,
    region: String,
    gap: Millis,
    capacity: Vec<u16>,
    prices: Option<Vec<MicroUsdPerHour>>,
    on_demand: Option<MicroUsdPerHour>,
}

fn bad(file: &Path, what: impl Into<String>) -> LoadError {
    LoadError::File { file: file.to_owned(), what: what.into() }
}

/// Dollars as a recording has them (a JSON number) in whole micro-dollars per hour.
pub fn usd_per_hour(dollars: f64) -> Option<MicroUsdPerHour> {
    (dollars.is_finite() && (0.0..1.0e9).contains(&dollars)).then(|| MicroUsdPerHour((dollars * 1e6).round() as i64))
}

/// The region of a zone name: `us-east-1a` is in `us-east-1`, `us-central1-a` in `us-central1`, `use1-az4` in `use1`.
pub fn region_of(zone: &str) -> String {
    if let Some((region, az)) = zone.rsplit_once("-az")
        && !az.is_empty()
        && az.bytes().all(|b| b.is_ascii_digit())
    {
        return region.to_owned();
    }
    let cut = zone.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(zone);
    match cut.strip_suffix('-') {
        Some(gcp) => gcp.to_owned(),
        None if cut.ends_with(|c: char| c.is_ascii_digit()) => cut.to_owned(),
        None => zone.to_owned(),
    }
}

/// AWS: nothing within a region, $0.01 between us-east-1 and us-east-2, else $0.02 per GiB (the rate between most regions).
/// Source: "Data Transfer" on aws.amazon.com/s3/pricing; the same values as `skynomad-reference/aws_egress_pricing.csv`.
pub fn aws_egress(from: &Region, to: &Region) -> MicroUsd {
    match (from.as_str(), to.as_str()) {
        (a, b) if a == b => MicroUsd(0),
        ("us-east-1", "us-east-2") | ("us-east-2", "us-east-1") => MicroUsd(10_000),
        _ => MicroUsd(20_000),
    }
}

fn read(file: &Path) -> Result<String, LoadError> {
    fs::read_to_string(file).map_err(|e| bad(file, format!("cannot be read: {e}")))
}

/// The name of the zone a file is about: its own name, or its folder's when the file is called `0` or `full`.
fn name_of(file: &Path) -> String {
    let stem = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let own = stem(file);
    if own == "full" || own.bytes().all(|b| b.is_ascii_digit()) {
        return file.parent().map(stem).unwrap_or(own);
    }
    own
}

fn without_suffix(name: &str) -> &str {
    name.split_once('_').map_or(name, |(zone, _)| zone)
}

fn count(file: &Path, n: f64, polarity: Polarity) -> Result<u16, LoadError> {
    if !(0.0..=65_535.0).contains(&n) {
        return Err(bad(file, format!("a count of instances must be 0 to 65535, not {n}")));
    }
    Ok(match polarity {
        Polarity::Available => n as u16,
        Polarity::Preempted => u16::from(n == 0.0),
    })
}

fn prices_of(file: &Path, prices: &[f64]) -> Result<Vec<MicroUsdPerHour>, LoadError> {
    let one = |p: &f64| usd_per_hour(*p).ok_or_else(|| bad(file, format!("a price must be dollars per hour, not {p}")));
    prices.iter().map(one).collect()
}

fn read_json(file: &Path, polarity: Polarity) -> Result<Option<Raw>, LoadError> {
    let text = read(file)?;
    if !text.contains("\"data\"") {
        return Ok(None);
    }
    let zone: JsonZone =
        serde_json::from_str(&text).map_err(|e| bad(file, format!("expected {{\"metadata\":{{...}},\"data\":[...]}}: {e}")))?;
    let meta = zone.metadata.unwrap_or_default();
    let gap = meta.gap_seconds.unwrap_or(0.0);
    if !(1.0..=LONGEST_GAP as f64).contains(&gap) {
        return Err(bad(file, format!("metadata.gap_seconds must be 1 to {LONGEST_GAP}, not {gap}")));
    }
    let info = meta.price_info.as_ref();
    let constant = info.and_then(|i| i.price).map(|p| vec![p; zone.data.len()]);
    let prices = zone.prices.or(constant).map(|p| prices_of(file, &p)).transpose()?;
    if prices.as_ref().is_some_and(|p| p.is_empty() && !zone.data.is_empty()) {
        return Err(bad(file, "\"prices\" is empty: leave it out or give one price per tick"));
    }
    let name = meta.zone.unwrap_or_else(|| name_of(file));
    let region = meta.region.unwrap_or_else(|| region_of(without_suffix(&name)));
    let capacity = zone.data.iter().map(|n| count(file, *n, polarity)).collect::<Result<_, _>>()?;
    let on_demand = meta.on_demand_price.or(info.and_then(|i| i.on_demand_price)).and_then(usd_per_hour);
    Ok(Some(Raw { zone: name, region, gap: Millis((gap * 1000.0).round() as i64), capacity, prices, on_demand }))
}

/// Seconds since 1970 of `2023-02-15 22:08:16` (a `T` between date and time and a trailing `Z` are taken too).
fn seconds(stamp: &str) -> Option<i64> {
    let part = |from: usize, to: usize| stamp.get(from..to)?.parse::<i64>().ok();
    let day = crate::core::units::time::Timestamp::from_date(part(0, 4)?, part(5, 7)?, part(8, 10)?).0 / 1000;
    Some(day + part(11, 13)? * 3600 + part(14, 16)? * 60 + part(17, 19)?)
}

fn read_csv(file: &Path, polarity: Polarity) -> Result<Option<Raw>, LoadError> {
    let mut rows = csv::Reader::from_path(file).map_err(|e| bad(file, format!("cannot be read: {e}")))?;
    let header = rows.headers().map_err(|e| bad(file, e.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|h| h == name);
    let (Some(date), Some(up)) = (column("date"), column("availability")) else { return Ok(None) };
    let price = column("price");
    let (mut stamps, mut capacity, mut prices) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows.records() {
        let row = row.map_err(|e| bad(file, e.to_string()))?;
        let cell = |i: usize| row.get(i).unwrap_or_default();
        let line = stamps.len() + 2;
        stamps.push(seconds(cell(date)).ok_or_else(|| bad(file, format!("line {line}: {:?} is not a date and time", cell(date))))?);
        let n = cell(up).parse().map_err(|_| bad(file, format!("line {line}: availability {:?} is not a number", cell(up))))?;
        capacity.push(count(file, n, polarity)?);
        if let Some(p) = price {
            prices.push(cell(p).parse().map_err(|_| bad(file, format!("line {line}: price {:?} is not a number", cell(p))))?);
        }
    }
    let mut gaps: Vec<i64> = stamps.windows(2).map(|w| w[1] - w[0]).collect();
    gaps.sort_unstable();
    let gap = gaps.get(gaps.len() / 2).copied().unwrap_or(0);
    if gap <= 0 {
        return Err(bad(file, "the dates must rise, one row per tick, at least two rows"));
    }
    if gap > LONGEST_GAP {
        return Err(bad(file, format!("most rows are {gap} seconds apart; expected at most {LONGEST_GAP}")));
    }
    let zone = name_of(file);
    let region = region_of(without_suffix(&zone));
    let prices = price.map(|_| prices_of(file, &prices)).transpose()?;
    Ok(Some(Raw { region, zone, gap: Millis::from_secs(gap), capacity, prices, on_demand: None }))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let listed = fs::read_dir(dir).map_err(|_| LoadError::Missing(dir.to_owned()))?;
    let mut paths: Vec<PathBuf> = listed.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    Ok(paths)
}

/// The zones directly in `dir`, or in files `0.json` or `full.json` one folder below.
fn zones_in(dir: &Path, polarity: Polarity) -> Result<Vec<Raw>, LoadError> {
    let mut found = Vec::new();
    for path in entries(dir)? {
        let one = ["full.json", "0.json"].map(|f| path.join(f)).into_iter().find(|p| p.is_file());
        let file = if path.is_dir() { one } else { Some(path) };
        let Some(file) = file else { continue };
        let raw = match file.extension().and_then(|e| e.to_str()) {
            Some("json") => read_json(&file, polarity)?,
            Some("csv") => read_csv(&file, polarity)?,
            _ => None,
        };
        found.extend(raw);
    }
    Ok(found)
}

/// Finds the set: `dir` itself, else one of the preferred sets below it, else the only folder below it that holds zones.
fn find_set(dir: &Path, options: &LoadOptions) -> Result<(PathBuf, Vec<Raw>), LoadError> {
    if !dir.is_dir() {
        return Err(LoadError::Missing(dir.to_owned()));
    }
    let here = zones_in(dir, options.polarity)?;
    if !here.is_empty() {
        return Ok((dir.to_owned(), here));
    }
    if let Some(best) = options.prefer.iter().map(|p| dir.join(p)).find(|p| p.is_dir()) {
        let zones = zones_in(&best, options.polarity)?;
        return Ok((best, zones));
    }
    let mut sets = Vec::new();
    for below in entries(dir)?.into_iter().filter(|p| p.is_dir()) {
        let zones = zones_in(&below, options.polarity)?;
        if !zones.is_empty() {
            sets.push((below, zones));
        }
    }
    match sets.len() {
        0 => Err(LoadError::Empty(dir.to_owned())),
        1 => Ok(sets.remove(0)),
        _ => {
            let names: Vec<String> = sets.iter().map(|(p, _)| p.display().to_string()).collect();
            Err(LoadError::Ambiguous(dir.to_owned(), names.join(", ")))
        }
    }
}

/// The folder that holds `dir`; the parent of a bare name is here, not nowhere.
fn above(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Price lists beside a set that has none: a JSON map of zone to prices, or `{"prices":[...]}` files named as the zones.
fn price_lists(dir: &Path) -> Result<BTreeMap<String, Vec<MicroUsdPerHour>>, LoadError> {
    let mut lists = BTreeMap::new();
    for place in [dir, above(dir)] {
        for file in entries(place)?.into_iter().filter(|p| p.is_file() && p.to_string_lossy().ends_with("prices.json")) {
            let map: BTreeMap<String, Vec<f64>> =
                serde_json::from_str(&read(&file)?).map_err(|e| bad(&file, format!("expected a map of zone to prices: {e}")))?;
            for (zone, prices) in map {
                let prices = prices_of(&file, &prices)?;
                lists.entry(zone).or_insert(prices);
            }
        }
    }
    Ok(lists)
}

/// The egress table of a folder of sets, if one lies at or above `dir`.
fn egress_table(dir: &Path) -> Result<BTreeMap<(String, String), MicroUsd>, LoadError> {
    let mut table = BTreeMap::new();
    let above = dir.ancestors().take(3).map(|a| a.join("skynomad-reference/aws_egress_pricing.csv")).find(|f| f.is_file());
    let Some(file) = above else { return Ok(table) };
    let mut rows = csv::Reader::from_path(&file).map_err(|e| bad(&file, e.to_string()))?;
    for row in rows.deserialize::<(String, String, String)>() {
        let (from, to, price) = row.map_err(|e| bad(&file, e.to_string()))?;
        let price: MicroUsd = price.parse().map_err(|e: crate::core::units::money::BadMoney| bad(&file, e.to_string()))?;
        table.insert((from, to), price);
    }
    Ok(table)
}

/// Reads the market in `dir`: one file per zone, as JSON
/// `{"metadata":{"zone","region","gap_seconds","on_demand_price"},"data":[n,...],"prices":[...]}` (all of the metadata but the
/// gap may be missing; `price_info` with `price` and `on_demand_price` is taken too), or as CSV `date,availability[,price]`.
pub fn load(dir: &Path, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let (from, mut raws) = find_set(dir, options)?;
    let mut notes = Vec::new();
    let wanted = |r: &Raw| options.zones.is_empty() || options.zones.iter().any(|z| *z == r.zone || z == without_suffix(&r.zone));
    for z in &options.zones {
        if !raws.iter().any(|r| *z == r.zone || z == without_suffix(&r.zone)) {
            let known: Vec<&str> = raws.iter().map(|r| without_suffix(&r.zone)).collect();
            return Err(LoadError::Zone {
                zone: z.clone(),
                what: format!("no such zone in {}; there are: {}", from.display(), known.join(", ")),
            });
        }
    }
    raws.retain(wanted);
    raws.sort_by(|a, b| a.zone.cmp(&b.zone));
    let lists = if raws.iter().all(|r| r.prices.is_some()) { BTreeMap::new() } else { price_lists(&from)? };
    let Some(tick) = raws.iter().map(|r| r.gap).min() else { return Err(LoadError::Empty(dir.to_owned())) };
    let mut zones = Vec::with_capacity(raws.len());
    for raw in raws {
        zones.push(finish(raw, tick, &lists, options, &mut notes)?);
    }
    let lengths = zones.iter().map(|z| z.capacity.len());
    let (shortest, longest) = (lengths.clone().min().unwrap_or(0), lengths.max().unwrap_or(0));
    let ticks = if options.longest { longest } else { shortest };
    if shortest < longest {
        let short: Vec<String> =
            zones.iter().filter(|z| z.capacity.len() < longest).map(|z| format!("{} ({} ticks)", z.zone, z.capacity.len())).collect();
        let what = if options.longest {
            "counted as without capacity after their end"
        } else {
            "everything is cut to the shortest (--span longest keeps all)"
        };
        notes.push(format!("zones shorter than the longest ({longest} ticks): {}; {what}", short.join(", ")));
    }
    let table = egress_table(&from)?;
    let egress = |a: &Region, b: &Region| match (options.egress_per_gib, a == b) {
        (_, true) => MicroUsd(0),
        (Some(given), false) => given,
        (None, false) => table.get(&(a.as_str().to_owned(), b.as_str().to_owned())).copied().unwrap_or_else(|| aws_egress(a, b)),
    };
    Ok(Loaded { market: Market::new(zones, tick, ticks, egress), from, notes })
}

/// Prices, on-demand price and the common tick for one zone.
fn finish(
    raw: Raw,
    tick: Millis,
    lists: &BTreeMap<String, Vec<MicroUsdPerHour>>,
    options: &LoadOptions,
    notes: &mut Vec<String>,
) -> Result<Zone, LoadError> {
    let name = without_suffix(&raw.zone).to_owned();
    let missing = |what: &str| LoadError::Zone { zone: name.clone(), what: what.to_owned() };
    // p3.2xlarge is $3.06 on demand in us-east-1, us-east-2 and us-west-2; the availability CSVs of that set state no price.
    let known = raw.zone.ends_with("_v100_1").then_some(MicroUsdPerHour(3_060_000));
    let on_demand =
        options.on_demand.or(raw.on_demand).or(known).ok_or_else(|| missing("no on-demand price; give one with --on-demand-price"))?;
    let ticks = raw.capacity.len();
    // A list beside the set belongs to it only when it has a price for every tick.
    let listed = || lists.get(&raw.zone).or_else(|| lists.get(&name)).filter(|l| l.len() == ticks).cloned();
    let spot = match raw.prices.or_else(|| options.spot.map(|p| vec![p; ticks])).or_else(listed).or_else(|| {
        let spot = usd_per_hour(on_demand.0 as f64 / 1e6 / options.on_demand_ratio?)?;
        Some(vec![spot; ticks])
    }) {
        Some(spot) => spot,
        None => return Err(missing("no spot prices; give one with --spot-price")),
    };
    if spot.len() != ticks && spot.len() > 1 {
        notes.push(format!("{name}: {} prices for {ticks} ticks; the last price holds on", spot.len()));
    }
    let last = spot.last().copied().unwrap_or(on_demand);
    let at = |i: usize| spot.get(i).copied().unwrap_or(last);
    // A zone recorded in longer ticks repeats each of them: what was seen last still holds.
    let stretched = ticks as i128 * i128::from(raw.gap.0) / i128::from(tick.0);
    if stretched > MOST_TICKS {
        return Err(missing(&format!("{ticks} ticks of {} are {stretched} of {tick}; expected at most {MOST_TICKS}", raw.gap)));
    }
    let stretched = stretched as usize;
    let source = |i: usize| ((i as i64 * tick.0 / raw.gap.0) as usize).min(ticks.saturating_sub(1));
    if raw.gap != tick {
        notes.push(format!("{name}: recorded every {}, used every {tick}", raw.gap));
    }
    Ok(Zone {
        capacity: (0..stretched).map(|i| raw.capacity[source(i)]).collect(),
        spot: (0..stretched).map(|i| at(source(i))).collect(),
        zone: ZoneId::from(name),
        region: Region::from(raw.region),
        on_demand,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_named_without_a_path_lies_here() {
        assert_eq!([above(Path::new("traces")), above(Path::new("a/traces"))], [Path::new("."), Path::new("a")]);
        // Looking for price lists beside it must not fail.
        assert!(price_lists(Path::new("src")).is_ok_and(|lists| lists.is_empty()));
    }

    /// What is read of a folder with these two files.
    fn loaded(json: &str, csv: &str) -> Result<Loaded, LoadError> {
        static FOLDERS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = FOLDERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let above = std::env::temp_dir().join(format!("lowtide-traces-{}-{number}", std::process::id()));
        let folder = above.join("set");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("us-east-1a.json"), json).unwrap();
        fs::write(folder.join("us-west-2b_v100_1.csv"), csv).unwrap();
        let options = LoadOptions { on_demand: Some(MicroUsdPerHour(3_060_000)), longest: true, ..LoadOptions::default() };
        let found = load(&folder, &options);
        fs::remove_dir_all(&above).unwrap();
        found
    }

    const JSON: &str = r#"{"metadata": {"zone": "us-east-1a", "region": "us-east-1", "gap_seconds": 300, "on_demand_price": 3.06},
        "data": [1, 0, 4, 2], "prices": [0.9, 0.91, 0.95, 1.2]}"#;
    const CSV: &str = "date,availability,price\n2023-02-15 22:00:00,1,0.9\n2023-02-15 22:10:00,0,0.92\n2023-02-15 22:20:00,3,1.1\n";

    #[test]
    fn a_recording_that_would_be_repeated_without_end_is_refused() {
        let second = JSON.replace("300", "1");
        let years = CSV.replacen("2023", "0001", 1).replacen("2023-02-15 22:20", "9999-02-15 22:20", 1);
        let fault = loaded(&second, &years).unwrap_err().to_string();
        assert!(fault.contains("seconds apart; expected at most 86400"), "{fault}");
        let long: String =
            (0..600).map(|n| format!("{}-{:02}-{:02} 00:00:00,1,0.9\n", 2000 + n / 336, n / 28 % 12 + 1, n % 28 + 1)).collect();
        let fault = loaded(&second, &format!("date,availability,price\n{long}")).unwrap_err().to_string();
        assert!(fault.contains("600 ticks of 1d00h are 51840000 of 1.0s; expected at most 50000000"), "{fault}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_a_recorded_market_holds_is_zones_with_prices_or_refused_with_a_sentence(
            json in proptest::prop_oneof![
                crate::mutation::text(&[JSON]),
                proptest::strategy::Strategy::prop_map(crate::mutation::json(vec![serde_json::from_str(JSON).unwrap()]), |json| json.to_string())
            ],
            csv in crate::mutation::csv(&[CSV]),
        ) {
            match loaded(&json, &csv) {
                Ok(found) => {
                    let zones = &found.market.zones;
                    assert!(!zones.is_empty() && zones.iter().all(|zone| zone.spot.len() == zone.capacity.len()));
                    assert!(zones.iter().flat_map(|zone| &zone.spot).all(|price| (0..=1_000_000_000_000_000).contains(&price.0)));
                }
                Err(fault) => assert!(fault.to_string().len() > 20, "{fault}"),
            }
        }
    }
}
