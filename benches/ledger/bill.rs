//! A bill of very many lines, AWS's own and as FOCUS, as CSV, in gzip and as Parquet: how long each takes and how much memory this process held at most.
//!
//! Decides: the shape of the bills (16 columns, an hour of a machine to a line, one machine in a thousand ours; as FOCUS, every other row is a vendor's API with a
//! tag of its team), and that an import that holds more than [`MOST_MEMORY_KIB`], or takes longer than [`LONGEST_PER_MILLION`] for each million lines, is a
//! failure.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::facts::MONTH;
use super::timed;
use lowtide::core::units::time::Millis;
use lowtide::lab::postgres::PrivatePostgres;
use lowtide::lab::progress::Wait;
use lowtide::ledger::import::{Format, Imported, Mapping, Options, import};
use lowtide::ledger::table_file::{self, Column, Kind, TableWriter};
use lowtide::ledger::{connect, migrate};

/// Whose bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Aws,
    Focus,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Of::Aws => "bill",
            Of::Focus => "focus",
        }
    }

    fn columns(self) -> [&'static str; 16] {
        match self {
            Of::Aws => COLUMNS,
            Of::Focus => FOCUS_COLUMNS,
        }
    }

    fn values(self, n: i64) -> [String; 16] {
        match self {
            Of::Aws => values(n),
            Of::Focus => focus_values(n),
        }
    }
}

const FOCUS_COLUMNS: [&str; 16] = [
    "BillingAccountId",
    "BillingPeriodStart",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "BilledCost",
    "EffectiveCost",
    "BillingCurrency",
    "ServiceName",
    "ServiceCategory",
    "ChargeCategory",
    "ChargeDescription",
    "ProviderName",
    "ResourceId",
    "RegionId",
    "SkuId",
    "Tags",
];
const COLUMNS: [&str; 16] = [
    "identity_line_item_id",
    "bill_payer_account_id",
    "bill_billing_period_start_date",
    "line_item_usage_account_id",
    "line_item_line_item_type",
    "line_item_resource_id",
    "line_item_usage_type",
    "line_item_operation",
    "line_item_usage_start_date",
    "line_item_usage_end_date",
    "line_item_usage_amount",
    "line_item_unblended_cost",
    "line_item_currency_code",
    "line_item_line_item_description",
    "product_region_code",
    "resource_tags",
];
const HOURS: i64 = 720;

/// However many lines: 300 MiB.
const MOST_MEMORY_KIB: u64 = 300 * 1_024;
/// In an optimised build.
const LONGEST_PER_MILLION: Duration = Duration::from_secs(120);
/// What a bill of a few lines takes anyway: connecting, temporary tables, posting.
const LEAST_ALLOWED: Duration = Duration::from_secs(10);

/// Imports a bill of `lines` lines in each form, each into a ledger of its own.
pub async fn import_in_each_form(server: &PrivatePostgres, lines: i64) -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("lowtide-bill-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (mut done, mut beyond) = (Ok(()), Vec::new());
    for (of, form) in [Of::Aws, Of::Focus].into_iter().flat_map(|of| ["csv", "csv.gz", "parquet"].map(|form| (of, form))) {
        if done.is_ok() {
            let path = folder.join(format!("{}.{form}", of.name()));
            done = import_one(server, of, &path, lines).await.map(|found| beyond.extend(found));
        }
    }
    std::fs::remove_dir_all(&folder)?;
    done?;
    // Every form is measured before one fails the run.
    if beyond.is_empty() { Ok(()) } else { Err(beyond.join("; ").into()) }
}

/// Gives what is beyond its bound.
async fn import_one(server: &PrivatePostgres, of: Of, path: &Path, lines: i64) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let form = path.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default();
    let name = of.name();
    let database = format!("{name}_{form}");
    server.psql("template1", &format!("CREATE DATABASE {database}"))?;
    let url = server.url_of(&database);
    migrate(&url).await?;
    let machines = format!(
        "SET timezone = 'UTC'; SELECT ledger.ensure_month('2026-07-01'); SELECT ledger.ensure_month('2026-08-01');
         INSERT INTO ledger.interval_opened (id, at, claim_uid, claim, decision, instance, region, zone, instance_type, capacity_type, gpus, price_usd_h, on_demand_usd_h)
         SELECT gen_random_uuid(), '2026-07-01', 'billed-' || m, 'billed-' || m, gen_random_uuid(), 'i-' || m, 'eu-south-2', 'eus2-az3', 'g6.xlarge', 'spot', 1, 1, 3
         FROM generate_series(0, {lines} / {HOURS}, 1000) m;
         INSERT INTO ledger.interval_closed (id, at, claim_uid, ended_by)
         SELECT gen_random_uuid(), '2026-07-31', claim_uid, 'lowtide' FROM ledger.interval_opened"
    );
    server.psql(&database, &machines)?;
    let wait = Wait::begin(format!("write {lines} lines of {name} as {form}"));
    write(of, path, lines)?;
    wait.done("written");
    let mut connection = connect(&url).await?;
    // The kernel begins again with what is held now.
    let begins_again = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let now = MONTH + Millis::from_hours(24 * 60);
    let files: Vec<PathBuf> = vec![path.to_owned()];
    let options = Options { complete: true, ..Options::default() };
    let mapping = Mapping::default();
    let format = if of == Of::Focus { Format::Focus(&mapping) } else { Format::Cur };
    let (imported, took) = timed("the import", import(&mut connection, format, &files, options, now)).await?;
    let megabytes = std::fs::metadata(path)?.len() / 1_000_000;
    let taken = taken(server, &database, of, &imported)?;
    let kib = most_memory();
    println!("{name} as {form}: {taken} lines ({megabytes} MB) in {:.1} s, {}", took.as_secs_f64(), in_words(kib, begins_again));
    std::fs::remove_file(path)?;
    server.psql("template1", &format!("DROP DATABASE {database} WITH (FORCE)"))?;
    let said = beyond(usize::try_from(lines)?, taken, took, kib);
    Ok(said.into_iter().map(|said| format!("{name} as {form}: {said}")).collect())
}

/// How many lines were taken: those of AWS's bill are counted; of FOCUS rows are added up, and each costs a dollar.
fn taken(server: &PrivatePostgres, database: &str, of: Of, imported: &Imported) -> Result<usize, Box<dyn std::error::Error>> {
    if of == Of::Aws {
        return Ok(imported.statements.first().map_or(0, |statement| statement.changes.new));
    }
    let dollars = server.psql(database, "SELECT sum(cost_usd)::bigint FROM ledger.external_cost")?;
    Ok(dollars.trim().parse::<usize>()? + imported.left_out)
}

/// What does not hold of an import: memory is bounded whatever the lines, time goes with them.
fn beyond(lines: usize, new: usize, took: Duration, kib: Option<u64>) -> Vec<String> {
    let longest = LONGEST_PER_MILLION.mul_f64(lines as f64 / 1e6).max(LEAST_ALLOWED);
    let mut found = Vec::new();
    if new != lines {
        found.push(format!("{new} of {lines} lines were taken"));
    }
    if took > longest {
        found.push(format!("it took {:.1} s; expected {:.1} s at most for {lines} lines", took.as_secs_f64(), longest.as_secs_f64()));
    }
    match kib {
        Some(kib) if kib > MOST_MEMORY_KIB => {
            found.push(format!("it held {} MiB; expected {} MiB at most", kib / 1_024, MOST_MEMORY_KIB / 1_024));
        }
        Some(_) => {}
        None => found.push("this system does not say how much memory it held".to_owned()),
    }
    found
}

/// The most memory that this process held, as the kernel has it.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

fn in_words(kib: Option<u64>, since_begun: bool) -> String {
    match kib {
        Some(kib) if since_begun => format!("{} MiB at most", kib / 1_024),
        Some(kib) => format!("{} MiB at most, the writing of the file included", kib / 1_024),
        None => "memory unknown: this system does not say".to_owned(),
    }
}

fn values(n: i64) -> [String; 16] {
    let (machine, hour) = (n / HOURS, n % HOURS);
    let at = |hour: i64| (MONTH + Millis::from_hours(hour)).to_string();
    [
        &format!("id{n}"),
        "111122223333",
        "2026-07-01T00:00:00Z",
        "444455556666",
        "Usage",
        &format!("i-{machine}"),
        "EUS2-SpotUsage:g6.xlarge",
        "RunInstances:SV001",
        &at(hour),
        &at(hour + 1),
        "1.0000000000",
        "1.0000000000",
        "USD",
        "g6.xlarge Linux/UNIX Spot Instance-hour in EU (Spain)",
        "eu-south-2",
        "",
    ]
    .map(str::to_owned)
}

fn focus_values(n: i64) -> [String; 16] {
    let (machine, hour) = (n / 2 / HOURS, n / 2 % HOURS);
    let at = |hour: i64| (MONTH + Millis::from_hours(hour)).to_string();
    let (service, category, resource, sku, tags) = if n % 2 == 0 {
        (
            "Amazon Elastic Compute Cloud",
            "Compute",
            format!("arn:aws:ec2:eu-south-2:444455556666:instance/i-{machine}"),
            "SKU1",
            "{}".to_owned(),
        )
    } else {
        ("Model API", "AI and Machine Learning", String::new(), "SKU2", format!("{{\"team\": \"team-{}\"}}", machine % 50))
    };
    [
        "111122223333",
        "2026-07-01T00:00:00Z",
        &at(hour),
        &at(hour + 1),
        "1.0000000000",
        "1.0000000000",
        "USD",
        service,
        category,
        "Usage",
        &format!("hour {hour} of {machine}"),
        "AWS",
        &resource,
        "eu-south-2",
        sku,
        &tags,
    ]
    .map(str::to_owned)
}

/// As a field of CSV.
fn quoted(value: String) -> String {
    if value.contains('"') { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

fn write(of: Of, path: &Path, lines: i64) -> Result<(), Box<dyn std::error::Error>> {
    let form = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if form == "parquet" {
        let column = |name: &&str| Column { name: name.to_string(), kind: Kind::Text };
        let mut writer = TableWriter::create(path, of.columns().iter().map(column).collect(), table_file::Format::Parquet)?;
        for n in 0..lines {
            writer.add(of.values(n).map(Some).to_vec())?;
        }
        return Ok(writer.finish()?);
    }
    let file = BufWriter::new(File::create(path)?);
    let mut text: Box<dyn Write> = if form == "gz" { Box::new(GzEncoder::new(file, Compression::default())) } else { Box::new(file) };
    writeln!(text, "{}", of.columns().join(","))?;
    for n in 0..lines {
        writeln!(text, "{}", of.values(n).map(quoted).join(","))?;
    }
    Ok(text.flush()?)
}
