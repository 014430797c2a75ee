//! What S3 answers, as XML, before the library for object stores reads it.
//!
//! Decides: what a list must be, how its keys pass through the library, and what an error says. Does not: ask (see [`super::wire`]).
//! Source: Amazon S3 API reference, "ListObjectsV2" and "Error responses".

use object_store::path::Path;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;

/// What the library does not look at: it takes any element without contents for an empty list, and one that is cut into pages for the whole.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    is_truncated: Option<String>,
    next_continuation_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    code: String,
    #[serde(default)]
    message: String,
}

/// A page of a list as the library can read it, or what is wrong with it.
pub(super) fn page(xml: &str) -> Result<String, String> {
    let root = root_of(xml)?;
    if root != "ListBucketResult" {
        return Err(format!("<{root}> instead of <ListBucketResult>"));
    }
    if !xml.trim_end().ends_with("ListBucketResult>") {
        return Err("a list that is cut off".into());
    }
    let page: Page = quick_xml::de::from_str(xml).map_err(|fault| fault.to_string())?;
    match (page.is_truncated.as_deref(), page.next_continuation_token) {
        (Some("true"), None) => Err("a list that goes on, without saying how".into()),
        (Some("true"), Some(_)) | (_, None) => Ok(with_keys_as_segments(xml)),
        (_, Some(_)) => Err("a list that ends, and says how it goes on".into()),
    }
}

fn root_of(xml: &str) -> Result<String, String> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().map_err(|fault| fault.to_string())? {
            Event::Start(element) | Event::Empty(element) => return Ok(String::from_utf8_lossy(element.local_name().as_ref()).into_owned()),
            Event::Eof => return Err("no root element".into()),
            _ => {}
        }
    }
}

/// The library's paths have no empty segments and no slash at either end, but keys have: a report whose prefix ends in a slash is written below `prefix//report`.
/// So each key is one segment.
fn with_keys_as_segments(xml: &str) -> String {
    let mut pieces = xml.split("<Key>");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (key, rest) = piece.split_at(piece.find('<').unwrap_or(piece.len()));
        out.push_str("<Key>");
        out.push_str(&key.replace('%', "%25").replace('/', "%2F"));
        out.push_str(rest);
    }
    out
}

/// The key that a list names, from what the library made of it.
pub(super) fn key_of(location: &Path) -> String {
    location.as_ref().replace("%2F", "/").replace("%25", "%")
}

/// Whether a header of a request may say it: an object is asked for by its ETag.
pub(super) fn is_header(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1_024 && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Code and message of an error.
pub(super) fn error_of(xml: &str) -> Option<(String, String)> {
    let said: Said = quick_xml::de::from_str(xml).ok()?;
    Some((said.code, said.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::fetch::bucket::tests::listed;
    use crate::ledger::fetch::{BucketFault, Object};

    const LIST: &str = r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p</Prefix>
            <IsTruncated>true</IsTruncated><NextContinuationToken>1ue+x/==</NextContinuationToken>
            <Contents><Key>p/a&amp;b.csv.gz</Key><LastModified>2026-08-03T10:15:00.000Z</LastModified><ETag>&quot;70ee-2&quot;</ETag><Size>434234</Size>
            <Owner><ID>x</ID></Owner><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"#;
    const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    const TOKEN: &str = "<NextContinuationToken>1ue+x/==</NextContinuationToken>";

    /// The last page of what S3 writes.
    fn last() -> String {
        LIST.replace("<IsTruncated>true", "<IsTruncated>false").replace(TOKEN, "")
    }

    fn fault_of(listed: Result<Vec<Object>, BucketFault>) -> String {
        listed.unwrap_err().to_string()
    }

    #[test]
    fn a_list_is_read_as_s3_writes_it() {
        let objects = listed(&last()).unwrap();
        let modified = crate::core::units::time::Timestamp("2026-08-03T10:15:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond());
        assert_eq!(objects, [Object { key: "p/a&b.csv.gz".into(), etag: "\"70ee-2\"".into(), size: 434_234, modified }]);
        assert!(fault_of(listed(LIST)).contains("the list does not go on"), "it was asked for the next page, and got the same");
        for (bad, said) in [
            ("<html></html>", "<html> instead of"),
            ("", "no root"),
            (&LIST[..LIST.len() - 30], "a list that is cut off"),
            ("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "without saying how"),
            (&LIST.replace("<IsTruncated>true", "<IsTruncated>false"), "a list that ends, and says how it goes on"),
            ("<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>", "missing field `Size`"),
            (&last().replace("<ETag>&quot;70ee-2&quot;</ETag>", ""), "p/a&b.csv.gz is listed without its ETag"),
            (&last().replace("&quot;70ee-2&quot;", "70&#10;X-Other: 1"), "is listed with the ETag"),
        ] {
            let fault = fault_of(listed(bad));
            assert!(fault.contains(said) && fault.starts_with("s3://bucket/p did not answer as S3 does: "), "{bad}: {fault}");
        }
        assert_eq!(error_of(DENIED), Some(("AccessDenied".into(), "Access Denied".into())));
    }

    /// Keys are texts to S3: slashes at their ends and beside one another, and percent signs, are none of its business.
    #[test]
    fn keys_come_through_as_they_are() {
        for key in ["cur//report/a.csv", "/report/a.csv", "exports/", "a%2Fb", "a%252Fb//", "a b+c=é/~", "x/../y"] {
            let objects = listed(&last().replace("p/a&amp;b.csv.gz", key)).unwrap();
            assert_eq!(objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), [key]);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_s3_answers_is_objects_that_can_be_asked_for_or_refused_with_a_sentence(
            text in crate::mutation::text(&[LIST, DENIED]), etag in crate::mutation::text(&["&quot;70ee-2&quot;"])
        ) {
            for text in [&text, &last().replace("&quot;70ee-2&quot;", &etag)] {
            match listed(text) {
                Ok(objects) => {
                    for object in objects {
                        let mut request = aws_smithy_runtime_api::client::orchestrator::HttpRequest::empty();
                        assert!(request.headers_mut().try_insert("if-match", object.etag.clone()).is_ok(), "{object:?}");
                    }
                }
                Err(fault) => assert!(fault.to_string().len() > 5, "{fault}"),
            }
            if let Some((code, _)) = error_of(text) {
                assert!(text.contains("Code"), "{code}");
            }
            }
        }
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let deep = "<a>".repeat(100_000);
        for text in [format!("<ListBucketResult>{deep}"), format!("<ListBucketResult><Contents><Key>{deep}</Key></Contents>"), deep.clone()]
        {
            assert!(listed(&text).is_err());
            assert_eq!(error_of(&text), None);
        }
        // Nested and ended, so that it reaches the readers.
        let closed = format!("{deep}{}", "</a>".repeat(100_000));
        assert!(listed(&last().replace("<Owner>", &format!("<Owner>{closed}"))).is_ok());
        assert!(listed(&last().replace("p/a&amp;b.csv.gz", &closed)).is_err());
        assert!(listed(&format!("<ListBucketResult><IsTruncated>{closed}</IsTruncated></ListBucketResult>")).is_err());
    }
}
