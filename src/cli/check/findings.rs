//! What was found, and how it is shown.

use serde::Serialize;

use crate::ports::CloudError;

/// Where it was looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Area {
    /// Kubernetes.
    #[serde(serialize_with = "as_kubernetes")]
    Cluster,
    /// AWS, in the region of a node class.
    Region {
        /// The region.
        region: String,
        /// The node class.
        class: String,
    },
    /// Postgres.
    #[serde(serialize_with = "as_postgres")]
    Ledger,
}

fn as_kubernetes<S: serde::Serializer>(to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str("kubernetes")
}

fn as_postgres<S: serde::Serializer>(to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str("postgres")
}

impl Area {
    fn heading(&self) -> String {
        match self {
            Area::Cluster => "Kubernetes".to_owned(),
            Area::Region { region, class } => format!("AWS {region} (class {class})"),
            Area::Ledger => "Postgres".to_owned(),
        }
    }
}

/// What it means for lowtide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Lowtide works without it, but less well; or it could not be looked at.
    Note,
    /// Lowtide does not work like this.
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub area: Area,
    /// What.
    pub what: &'static str,
    /// What it means.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; nothing when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn good(area: Area, what: &'static str, found: impl Into<String>) -> Finding {
        Finding { area, what, verdict: Verdict::Good, found: found.into(), todo: None }
    }

    /// Worth a look.
    pub fn note(area: Area, what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { area, what, verdict: Verdict::Note, found: found.into(), todo: Some(todo.into()) }
    }

    /// Wrong.
    pub fn fault(area: Area, what: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { area, what, verdict: Verdict::Fault, found: found.into(), todo: Some(todo.into()) }
    }

    /// What AWS answered to a call that needs the right `right`.
    pub fn of_call<T>(
        area: Area,
        (what, right): (&'static str, &str),
        answer: Result<T, CloudError>,
        found: impl FnOnce(T) -> Result<String, (String, String)>,
    ) -> Finding {
        match answer {
            Ok(value) => match found(value) {
                Ok(text) => Finding::good(area, what, text),
                Err((text, todo)) => Finding::fault(area, what, text, todo),
            },
            Err(CloudError::Refused { code, message }) => {
                let todo = format!("allow {right} (terraform/modules/hub gives it), or correct the node class");
                Finding::fault(area, what, format!("{code}: {message}"), todo)
            }
            Err(CloudError::Throttled { code, .. }) => {
                Finding::note(area, what, format!("{code}: AWS throttles this account"), "run it again in a minute")
            }
            Err(other) => {
                Finding::fault(area, what, other.to_string(), "see whether AWS can be reached from here: credentials, network, region")
            }
        }
    }
}

/// Longest name of a check, for alignment.
const WIDTH: usize = 24;

/// For people: a heading for each area, a line for each check, and what to do below what is not good.
pub fn to_text(findings: &[Finding]) -> String {
    let (mut text, mut last) = (String::new(), None);
    for finding in findings {
        if last != Some(&finding.area) {
            text += &format!("{}{}\n", if last.is_some() { "\n" } else { "" }, finding.area.heading());
            last = Some(&finding.area);
        }
        let mark = match finding.verdict {
            Verdict::Good => "✓",
            Verdict::Note => "!",
            Verdict::Fault => "✗",
        };
        text += &format!("  {mark} {:<WIDTH$}  {}\n", finding.what, finding.found);
        if let Some(todo) = &finding.todo {
            text += &format!("    {:<WIDTH$}  -> {todo}\n", "");
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    text + &format!("\n{} good, {} to look at, {} wrong\n", count(Verdict::Good), count(Verdict::Note), count(Verdict::Fault))
}

/// For machines.
pub fn to_json(findings: &[Finding]) -> String {
    serde_json::to_string_pretty(findings).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_is_wrong_below_its_line_and_machines_the_same() {
        let region = || Area::Region { region: "us-east-1".into(), class: "gpu".into() };
        let denied = CloudError::Refused { code: "UnauthorizedOperation".into(), message: "not authorized".into() };
        let findings = [
            Finding::good(Area::Cluster, "API server", "v1.36.3"),
            Finding::of_call(region(), ("launches", "ec2:CreateFleet"), Err::<(), _>(denied), |()| Ok(String::new())),
            Finding::of_call(region(), ("quotas", "servicequotas:GetServiceQuota"), Ok(0), |n| {
                Err((format!("{n} vCPUs"), "ask for more".into()))
            }),
        ];
        let text = to_text(&findings);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines[0..2], ["Kubernetes", "  ✓ API server                v1.36.3"]);
        assert_eq!(lines[3..5], ["AWS us-east-1 (class gpu)", "  ✗ launches                  UnauthorizedOperation: not authorized"]);
        assert!(lines[5].ends_with("-> allow ec2:CreateFleet (terraform/modules/hub gives it), or correct the node class"), "{text}");
        assert_eq!(*lines.last().unwrap(), "1 good, 0 to look at, 2 wrong");
        let json: serde_json::Value = serde_json::from_str(&to_json(&findings)).unwrap();
        assert_eq!((&json[0]["area"], &json[1]["area"]["region"]), (&"kubernetes".into(), &"us-east-1".into()));
        assert_eq!((&json[2]["verdict"], &json[2]["todo"]), (&"fault".into(), &"ask for more".into()));
    }
}
