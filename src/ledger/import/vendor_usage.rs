//! Usage that AI vendors report, by model: requests, and tokens in and out.
//!
//! Decides: how their files are read, and whose usage a row is. Tokens in are all that the model read, from a cache or not. A bucket of a day is spread
//! evenly over its hours, as costs of a day are; shorter ones belong to the clock hour they lie in.
//! Does not: price tokens: what they cost comes from the vendor's bill (see [`super::focus_in`] and [`super::costs`]).
//! Sources: OpenAI API reference, "Usage", "Completions usage object", and the dashboard's CSV; Anthropic API reference, "Get Messages Usage Report",
//! and the console's CSV.

mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use self::rows::{Buckets, Report, Row, Vendor, read};
use super::checks::{Check, Checks};
use super::delivery::each_file_once;
use super::entries::known_workloads;
use super::reading::{ReadFile, each_line};
use super::statement::Outcome;
use super::usage::{Hours, take_days, workload_of};
use super::{ImportFault, Options};
use crate::core::units::ids::ObjectRef;
use crate::core::units::time::{Millis, Timestamp};
use crate::core::workload::need::UsageUnit;
use crate::ledger::turns::{self, Turn};

const HOUR: i64 = 3_600_000;
const MILLION: i128 = 1_000_000;
const FIELDS: [&str; 5] = ["project", "workspace", "api_key", "user", "model"];

/// Whose usage it is: by field and value of a row, the workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projects {
    lines: Vec<(String, String, ObjectRef)>,
    /// The file that says so.
    pub(super) file: Option<ReadFile>,
}

impl Projects {
    /// Reads a file with the columns `field,value,workload`, the more important line first.
    ///
    /// # Errors
    /// [`ImportFault`].
    pub fn read(path: &Path) -> Result<Projects, ImportFault> {
        let mut found = Vec::new();
        let file = each_line(
            path,
            &["field", "value", "workload"],
            |_| true,
            |line| {
                let expected = "one of project, workspace, api_key, user, model";
                let field = line.need("field", expected)?;
                if !FIELDS.contains(&field) {
                    return Err(line.fault("field", field, expected));
                }
                found.push((field.to_owned(), line.need("value", "a value of that field")?.to_owned(), workload_of(line, "workload")?));
                Ok(())
            },
        )?;
        Ok(Projects { lines: found, file: Some(file) })
    }

    fn of(&self, row: &Row) -> Option<&ObjectRef> {
        let is = |(field, value, _): &&(String, String, ObjectRef)| row.fields.get(field.as_str()).is_some_and(|of| of == value);
        self.lines.iter().find(is).map(|(.., workload)| workload)
    }
}

/// Takes reports in a transaction of the caller's. Rows of one vendor are one source, unless a person names another.
///
/// # Errors
/// [`ImportFault`]; then the transaction must be rolled back.
pub(super) async fn take(
    connection: &mut PgConnection,
    paths: &[PathBuf],
    projects: &Projects,
    options: &mut Options,
) -> Result<Vec<Outcome>, ImportFault> {
    turns::take(connection, Turn::Import).await?;
    let (mut of_vendors, mut mapped) = (BTreeMap::<Vendor, Hours>::new(), BTreeSet::new());
    let (mut spoken, mut open_page, mut last_page) = (Spoken::default(), BTreeMap::new(), BTreeSet::new());
    let mut buckets = Buckets::default();
    let checks = &mut options.checks;
    let files = each_file_once(paths, |number, path| {
        let Report { file, more, vendor } = read(path, &mut buckets, |row| {
            spoken.once(checks, number, path, &row)?;
            let workload = match projects.of(&row) {
                Some(workload) => {
                    mapped.insert(workload.clone());
                    workload.clone()
                }
                None => of_nobody(&row),
            };
            add(of_vendors.entry(row.vendor).or_default(), &row, &workload);
            Ok(())
        })?;
        if more {
            open_page.entry(vendor).or_insert_with(|| path.to_path_buf());
        } else {
            last_page.insert(vendor);
        }
        Ok(file)
    })?;
    // The last page of a report may have no rows, and says of none whose it is.
    if let Some((_, path)) = open_page.into_iter().find(|(vendor, _)| !last_page.contains(vendor) && !last_page.contains(&None)) {
        return Err(ImportFault::Incomplete(format!(
            "{} says that another page follows (has_more): fetch it and give all pages",
            path.display()
        )));
    }
    nothing_between(&buckets)?;
    known_workloads(connection, &mapped, &mut options.checks).await?;
    // Under one name, what both vendors say is one statement.
    let mut of_sources = BTreeMap::<String, Hours>::new();
    for (vendor, hours) in of_vendors {
        let of_source = of_sources.entry(options.source.clone().unwrap_or_else(|| vendor.as_str().to_owned())).or_default();
        hours.into_iter().for_each(|(key, micro)| *of_source.entry(key).or_default() += micro);
    }
    let mut outcomes = Vec::new();
    for (source, hours) in of_sources {
        outcomes.extend(take_days(connection, &source, hours, &files, options).await?);
    }
    Ok(outcomes)
}

/// Refuses pages between which one is missing: vendors write a bucket for each day or hour that was asked for, also for one without usage.
fn nothing_between(buckets: &Buckets) -> Result<(), ImportFault> {
    for (vendor, spans) in buckets {
        let mut upto: Option<Timestamp> = None;
        for (from, to) in spans {
            if let Some(upto) = upto.filter(|upto| upto < from) {
                return Err(ImportFault::Incomplete(format!(
                    "the pages of {} say nothing of the time from {upto} to {from}, although others before and after it do: fetch the page between and give all of \
                     them, or import what was asked for at different times by commands of its own",
                    vendor.as_str()
                )));
            }
            upto = Some(upto.map_or(*to, |upto| upto.max(*to)));
        }
    }
    Ok(())
}

/// Which spans the pages of one command have reported.
#[derive(Default)]
struct Spoken {
    groups: Vec<Group>,
    /// By page, vendor and fields: the place among the groups.
    places: BTreeMap<(PageNumber, Vendor, Fields), usize>,
}

/// A page: the number of its file, and its own in it.
type PageNumber = (usize, usize);

/// What distinguishes rows.
type Fields = BTreeMap<&'static str, String>;

/// The rows of one page with the same fields.
struct Group {
    page: PageNumber,
    vendor: Vendor,
    fields: Fields,
    spans: BTreeMap<Timestamp, Timestamp>,
    /// Groups of other pages whose rows may be about the same requests.
    like: Vec<usize>,
}

/// Whether two rows may be about the same requests: unless both name a project, a model or another field, and not the same one.
fn are_like(one: &Fields, other: &Fields) -> bool {
    one.iter().all(|(name, value)| other.get(name).is_none_or(|of_other| of_other == value))
}

impl Spoken {
    /// Refuses a row of which another page has spoken: the same days by the day and by the hour, by model and by project, from the API and from the dashboard,
    /// or one page twice would be added up.
    fn once(&mut self, checks: &mut Checks, file: usize, path: &Path, row: &Row) -> Result<(), ImportFault> {
        const LONGEST: Millis = Millis::from_hours(24);
        let page = (file, row.part);
        let key = (page, row.vendor, row.fields.clone());
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                let is_like = |of: &&Group| of.vendor == row.vendor && of.page != page && are_like(&of.fields, &row.fields);
                let like = self.groups.iter().enumerate().filter(|(_, of)| is_like(of)).map(|(n, _)| n).collect();
                self.groups.push(Group { page, vendor: row.vendor, fields: row.fields.clone(), spans: BTreeMap::new(), like });
                self.places.insert(key, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        let overlaps = |of: &Group| of.spans.range(row.from - LONGEST..row.to).any(|(_, to)| *to > row.from);
        let twice = self.groups.get(place).is_some_and(|group| group.like.iter().filter_map(|n| self.groups.get(*n)).any(overlaps));
        if let Some(group) = self.groups.get_mut(place) {
            group.spans.entry(row.from).and_modify(|to| *to = (*to).max(row.to)).or_insert(row.to);
        }
        if !twice {
            return Ok(());
        }
        checks.refuse(Check::HoursTwice, || {
            let (model, from) = (&row.model, row.from.to_rfc3339());
            format!(
                "{}: the usage of {model} from {from} is on another page or in another of these files as well: it would be added up; give it once",
                path.display()
            )
        })
    }
}

/// The workload of usage that the mapping does not know: the vendor, and its project or workspace.
fn of_nobody(row: &Row) -> ObjectRef {
    let project = row.fields.get("project").or(row.fields.get("workspace")).map_or("default", String::as_str);
    ObjectRef { namespace: row.vendor.as_str().into(), name: project.replace('/', "-") }
}

/// Adds a row to the hours it lies in.
fn add(hours: &mut Hours, row: &Row, workload: &ObjectRef) {
    let first = row.from.0.div_euclid(HOUR);
    let count = i128::from((row.to.0 - 1).max(row.from.0).div_euclid(HOUR) - first + 1);
    let amounts =
        [(UsageUnit::Requests, row.requests), (UsageUnit::TokensIn, Some(row.tokens_in)), (UsageUnit::TokensOut, Some(row.tokens_out))];
    for (unit, amount) in amounts.into_iter().filter_map(|(unit, amount)| Some((unit, amount?))) {
        let upto = |n: i128| amount * MILLION * n / count;
        for (n, hour) in (0..count).zip(first..) {
            let key = (workload.clone(), unit, Timestamp(hour * HOUR), row.model.clone());
            *hours.entry(key).or_default() += upto(n + 1) - upto(n);
        }
    }
}
