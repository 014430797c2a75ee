//! Files with a header and columns by name.
//!
//! Decides: how a value is asked for, and what is said when it is not there or cannot be read.
//! Does not: know what the columns mean.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::ImportFault;
use super::checks::{Check, Checks};
use crate::core::units::money::BilledUsd;
use crate::core::units::time::Timestamp;

/// Where each column is.
pub(super) struct Header {
    places: BTreeMap<String, usize>,
    /// Names that come more than once.
    repeated: BTreeSet<String>,
    /// Names of columns that are there and are not read.
    unread: BTreeSet<String>,
    /// Its names have no underscores, as Athena and Glue write those that had capitals: `billingperiodstart`.
    is_run_together: bool,
}

impl Header {
    /// Names in lower case with underscores: `lineItem/UsageStartDate` of older reports is `line_item_usage_start_date`.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut header = Header { places: BTreeMap::new(), repeated: BTreeSet::new(), unread: BTreeSet::new(), is_run_together: false };
        for (at, name) in names.into_iter().enumerate().map(|(at, name)| (at, column_name(name))).filter(|(_, name)| !name.is_empty()) {
            if header.places.insert(name.clone(), at).is_some() {
                header.repeated.insert(name);
            }
        }
        // Providers' own columns begin with x_ in any case.
        header.is_run_together = header.places.keys().all(|name| name.starts_with("x_") || !name.contains('_'));
        header
    }

    /// With the names of columns that are there and are not read.
    pub(super) fn and_unread<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.unread = names.into_iter().map(column_name).filter(|name| !self.places.contains_key(name)).collect();
        self
    }

    fn place(&self, name: &str) -> Option<usize> {
        let written = self.places.get(name);
        written.or_else(|| self.places.get(&run_together(name)).filter(|_| self.is_run_together)).copied()
    }

    /// Refuses a file that has a column twice that is read: which of the two holds nobody can tell.
    pub(super) fn refuse_repeated(&self, path: &Path, read: &dyn Fn(&str) -> bool) -> Result<(), ImportFault> {
        let Some(name) = self.repeated.iter().find(|name| read(name)) else { return Ok(()) };
        Err(ImportFault::Malformed {
            path: path.to_path_buf(),
            line: 1,
            fault: format!("the column {name} is there twice; expected it once"),
        })
    }

    /// Its names, in the form that columns are asked for by; of those that are not read too.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().chain(&self.unread).map(String::as_str)
    }

    /// Refuses a file with columns that are not among `known`: mostly a misspelling.
    pub(super) fn refuse_unknown(&self, path: &Path, known: &[&str], checks: &mut Checks) -> Result<(), ImportFault> {
        let unknown: Vec<&str> = self.names().filter(|name| !known.contains(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        checks.refuse(Check::UnknownColumns, || {
            format!("{}: unknown columns: {}; known are {}", path.display(), unknown.join(", "), known.join(", "))
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// Refuses a file that lacks one of `names`.
    pub(super) fn require(&self, path: &Path, line: u64, names: &[&str]) -> Result<(), ImportFault> {
        let missing: Vec<&str> = names.iter().copied().filter(|name| !self.has(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let found: Vec<&str> = self.places.keys().map(String::as_str).collect();
        let found = if found.len() > 20 { format!("{} others", found.len()) } else { found.join(", ") };
        Err(ImportFault::Malformed {
            path: path.to_path_buf(),
            line,
            fault: format!("expected the columns {}; missing: {}; found: {found}", names.join(", "), missing.join(", ")),
        })
    }
}

pub(super) fn column_name(name: &str) -> String {
    let mut out = String::new();
    let mut lower_before = false;
    for c in name.trim().trim_start_matches('\u{feff}').chars() {
        match c {
            '/' | ' ' | ':' | '-' | '_' | '.' => out.push('_'),
            c if c.is_uppercase() => {
                if lower_before {
                    out.push('_');
                }
                out.extend(c.to_lowercase());
            }
            c => out.push(c),
        }
        lower_before = c.is_lowercase() || c.is_ascii_digit();
    }
    out
}

/// A name without its underscores.
pub(super) fn run_together(name: &str) -> String {
    name.replace('_', "")
}

/// One line of a file.
pub(super) struct Line<'a> {
    pub path: &'a Path,
    pub number: u64,
    /// How many headers came before it after the first: which of several files that were put together it is from.
    pub part: usize,
    pub header: &'a Header,
    pub values: &'a [&'a str],
}

impl<'a> Line<'a> {
    /// The value of a column; `None` when the column is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.header.place(name).and_then(|at| self.values.get(at)).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The value of a column that must have one.
    pub(super) fn need(&self, name: &str, expected: &str) -> Result<&'a str, ImportFault> {
        self.get(name).ok_or_else(|| self.fault(name, "nothing", expected))
    }

    /// Everything that the line says, hashed: what comes again word for word has the same.
    pub(super) fn hashed(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        self.values.hash(&mut hash);
        hash.finish()
    }

    pub(super) fn fault(&self, name: &str, found: &str, expected: &str) -> ImportFault {
        let found: String = found.chars().take(60).collect();
        ImportFault::Malformed {
            path: self.path.to_path_buf(),
            line: self.number,
            fault: format!("column {name} holds {found:?}; expected {expected}"),
        }
    }

    /// An amount of dollars, with or without ` USD` behind it.
    pub(super) fn usd(&self, name: &str) -> Result<BilledUsd, ImportFault> {
        let expected = "an amount of US dollars, as in 0.0913000000";
        let text = self.need(name, expected)?;
        let figure = text.strip_suffix("USD").map_or(text, str::trim_end);
        figure.parse().map_err(|_| self.fault(name, text, expected))
    }

    /// An amount whose currency another column says.
    pub(super) fn usd_figure(&self, name: &str) -> Result<BilledUsd, ImportFault> {
        let expected = "an amount, as in 12.50";
        let text = self.need(name, expected)?;
        text.parse().map_err(|_| self.fault(name, text, expected))
    }

    /// A point in time.
    pub(super) fn time(&self, name: &str) -> Result<Timestamp, ImportFault> {
        let expected = "a point in time from 2000 to 2199, as in 2026-07-20T07:00:00Z or 2026-07-20 07:13:47 UTC";
        let text = self.need(name, expected)?;
        time_of(text).filter(|at| is_in_reach(*at)).ok_or_else(|| self.fault(name, text, expected))
    }
}

/// Whether anything can have been paid for then: a slip in a year would be spread over thousands of them, each month with a partition of its own.
pub(super) fn is_in_reach(at: Timestamp) -> bool {
    (Timestamp::from_date(2000, 1, 1)..Timestamp::from_date(2200, 1, 1)).contains(&at)
}

/// RFC 3339, or `2026-07-20 07:13:47 UTC` as the feed has it, or without a zone (then UTC) as older reports have it.
fn time_of(text: &str) -> Option<Timestamp> {
    let plain = text.trim_end_matches(" UTC").trim_end();
    if let Ok(at) = plain.parse::<jiff::Timestamp>() {
        return Some(Timestamp(at.as_millisecond()));
    }
    let at: jiff::civil::DateTime = plain.trim_end_matches('Z').parse().ok()?;
    Some(Timestamp(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_old_and_new_reports_have_one_name() {
        for (written, name) in [
            ("lineItem/UsageStartDate", "line_item_usage_start_date"),
            ("line_item_usage_start_date", "line_item_usage_start_date"),
            ("bill/InvoiceId", "bill_invoice_id"),
            ("savingsPlan/SavingsPlanEffectiveCost", "savings_plan_savings_plan_effective_cost"),
            ("pricing/publicOnDemandCost", "pricing_public_on_demand_cost"),
            ("InstanceID", "instance_id"),
            ("\u{feff}Timestamp", "timestamp"),
            ("resourceTags/user:lowtide-claim-uid", "resource_tags_user_lowtide_claim_uid"),
            ("resource_tags.user_lowtide_claim_uid", "resource_tags_user_lowtide_claim_uid"),
        ] {
            assert_eq!(column_name(written), name);
        }
    }

    #[test]
    fn times_are_read_as_aws_writes_them() {
        let at = Timestamp::from_date(2026, 7, 20) + crate::core::units::time::Millis(26_027_000);
        for text in [
            "2026-07-20 07:13:47 UTC",
            "2026-07-20T07:13:47Z",
            "2026-07-20T07:13:47.000Z",
            "2026-07-20 07:13:47",
            "2026-07-20T09:13:47+02:00",
        ] {
            assert_eq!(time_of(text), Some(at), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-20T07:13:47Z", "1784531627"] {
            assert_eq!(time_of(bad), None, "{bad}");
        }
    }
}
