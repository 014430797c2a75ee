//! What the servers count of themselves, in Prometheus' text format.
//!
//! Decides: nothing.

/// The sum of a counter or gauge over all its series whose labels hold every one of `labels` (as in `verb="GET"`).
pub fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    page.lines().filter_map(|line| value(line, name, labels)).sum()
}

fn value(line: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (of, value) = match rest.strip_prefix('{') {
        Some(labelled) => labelled.rsplit_once('}')?,
        None => ("", rest.strip_prefix(' ')?),
    };
    if labels.iter().any(|label| !of.contains(label)) {
        return None;
    }
    value.trim().split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_name_are_added_up_and_those_of_longer_names_are_not() {
        let page = "# HELP a what\na{x=\"1\",verb=\"GET\"} 3\na{verb=\"LIST\"} 4e1\na_total{verb=\"GET\"} 9\na 2\nb 1\n";
        assert_eq!(
            [sum(page, "a", &[]), sum(page, "a", &["verb=\"GET\""]), sum(page, "b", &[]), sum(page, "c", &[])],
            [45.0, 3.0, 1.0, 0.0]
        );
    }
}
