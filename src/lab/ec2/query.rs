//! The EC2 Query protocol's parameters: a flat form whose keys spell nested lists (`Filter.1.Value.2`).

use std::collections::{BTreeMap, BTreeSet};

use super::fault::Fault;

/// The parameters of one call, by their flattened names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(BTreeMap<String, String>);

/// One `Filter.N`: a name and the values of which any may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// As in `instance-state-name` or `tag:team`.
    pub name: String,
    /// Alternatives; `*` and `?` are wildcards.
    pub values: Vec<String>,
}

impl Filter {
    /// Whether any of the values matches `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.values.iter().any(|pattern| wildcard(pattern.as_bytes(), text.as_bytes()))
    }
}

/// EC2 filter values know `*` (any run) and `?` (any one character).
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => wildcard(&pattern[1..], text) || (!text.is_empty() && wildcard(pattern, &text[1..])),
        (Some(b'?'), Some(_)) => wildcard(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) if p == t => wildcard(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], hex) {
            (b'+', _) => out.push(b' '),
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (other, _) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Params {
    /// Reads an `application/x-www-form-urlencoded` body.
    pub fn parse(form: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (percent_decoded(key), percent_decoded(value))
        };
        Params(form.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The value of one parameter; empty counts as absent, as EC2 has it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a parameter that has to be there.
    ///
    /// # Errors
    /// `MissingParameter`.
    pub fn need(&self, key: &str) -> Result<&str, Fault> {
        self.get(key).ok_or_else(|| Fault::missing(key))
    }

    /// A whole number, if given.
    ///
    /// # Errors
    /// `InvalidParameterValue` when it is not a number.
    pub fn number(&self, key: &str) -> Result<Option<i64>, Fault> {
        match self.get(key) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| Fault::value(text, key, "Expected an integer.")),
        }
    }

    /// Whether a boolean parameter is `true`.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    /// The parameters below `prefix.`, with the prefix cut off.
    pub fn under(&self, prefix: &str) -> Params {
        let start = format!("{prefix}.");
        Params(self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(&start)?.to_owned(), value.clone()))).collect())
    }

    /// The members of a structured list `prefix.1.…`, in their order.
    pub fn members(&self, prefix: &str) -> Vec<Params> {
        let below = self.under(prefix);
        let indices: BTreeSet<u32> = below.0.keys().filter_map(|key| key.split('.').next()?.parse().ok()).collect();
        indices.iter().map(|index| below.under(&index.to_string())).collect()
    }

    /// The members of a list of plain values `prefix.1=…`, in their order.
    pub fn list(&self, prefix: &str) -> Vec<String> {
        let below = self.under(prefix);
        let values: BTreeMap<u32, &String> = below.0.iter().filter_map(|(key, value)| Some((key.parse().ok()?, value))).collect();
        values.values().map(|value| (*value).clone()).collect()
    }

    /// The `Filter.N` of a Describe call.
    pub fn filters(&self) -> Vec<Filter> {
        let filter = |member: &Params| Some(Filter { name: member.get("Name")?.to_owned(), values: member.list("Value") });
        self.members("Filter").iter().filter_map(filter).collect()
    }

    /// These parameters without `keys`: what an idempotency token is compared over.
    pub fn without(&self, keys: &[&str]) -> Params {
        Params(self.0.iter().filter(|(key, _)| !keys.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// These parameters with those of `over` laid on top.
    pub fn overlaid(&self, over: &Params) -> Params {
        let mut all = self.0.clone();
        all.extend(over.0.clone());
        Params(all)
    }

    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One page of `items`: from the offset in `NextToken`, at most `MaxResults`, and the next token when more is left.
///
/// # Errors
/// `InvalidNextToken` for a token this simulator did not give.
pub fn page<T: Clone>(items: &[T], params: &Params, default_size: usize) -> Result<(Vec<T>, Option<String>), Fault> {
    let size = params.number("MaxResults")?.map_or(default_size, |n| usize::try_from(n).unwrap_or(1).max(1));
    let start = match params.get("NextToken") {
        None => 0,
        Some(token) => token
            .strip_prefix("page-from-")
            .and_then(|offset| usize::from_str_radix(offset, 16).ok())
            .ok_or_else(|| Fault::bad("InvalidNextToken", format!("The token '{token}' is invalid.")))?,
    };
    let end = items.len().min(start.saturating_add(size));
    let next = (end < items.len()).then(|| format!("page-from-{end:x}"));
    Ok((items.get(start.min(end)..end).unwrap_or_default().to_vec(), next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flattened_lists_come_back_in_their_numeric_order() {
        let params = Params::parse(
            "Action=X&InstanceType.2=b&InstanceType.10=c&InstanceType.1=a%2Ex&Filter.1.Name=tag%3Ateam&Filter.1.Value.1=in*&Filter.1.Value.2=z&Empty=",
        );
        assert_eq!(params.list("InstanceType"), ["a.x", "b", "c"]);
        assert_eq!(params.get("Empty"), None);
        let filters = params.filters();
        assert_eq!(filters[0].name, "tag:team");
        assert!(filters[0].matches("infer") && filters[0].matches("z") && !filters[0].matches("y"));
        assert_eq!(params.need("Nope").unwrap_err().code, "MissingParameter");
    }

    #[test]
    fn pages_cover_everything_once_and_foreign_tokens_are_refused() {
        let items: Vec<u32> = (0..7).collect();
        let (mut seen, mut query) = (Vec::new(), "MaxResults=3".to_owned());
        loop {
            let (page, next) = page(&items, &Params::parse(&query), 100).unwrap();
            seen.extend(page);
            match next {
                Some(token) => query = format!("MaxResults=3&NextToken={token}"),
                None => break,
            }
        }
        assert_eq!(seen, items);
        assert_eq!(page(&items, &Params::parse("NextToken=zzz"), 9).unwrap_err().code, "InvalidNextToken");
    }
}
