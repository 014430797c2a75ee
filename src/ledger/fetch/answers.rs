//! What S3 answers, as XML.
//!
//! Decides: what an answer must have. Does not: ask (see [`super::bucket`]).
//! Source: Amazon S3 API reference, "ListObjectsV2" and "Error responses"; read by the AWS SDK's own reader.

use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};

use super::bucket::Object;
use crate::core::units::time::Timestamp;

/// A page of a list, and how to ask for the next.
pub(super) fn listing(xml: &str) -> Result<(Vec<Object>, Option<String>), String> {
    let bad = |fault: XmlDecodeError| fault.to_string();
    let mut document = Document::new(xml);
    let mut root = document.root_element().map_err(bad)?;
    if !root.start_el().matches("ListBucketResult") {
        return Err(format!("<{}> instead of <ListBucketResult>", root.start_el().local()));
    }
    let (mut objects, mut truncated, mut next) = (Vec::new(), false, None);
    while let Some(mut tag) = root.next_tag() {
        match tag.start_el().local() {
            "Contents" => objects.push(object_of(&mut tag)?),
            "IsTruncated" => truncated = try_data(&mut tag).map_err(bad)? == "true",
            "NextContinuationToken" => next = Some(try_data(&mut tag).map_err(bad)?.into_owned()),
            _ => {}
        }
    }
    // The reader takes the end of the text for that of everything that is open.
    if !xml.trim_end().ends_with("ListBucketResult>") {
        return Err("a list that is cut off".into());
    }
    match (truncated, next) {
        (true, None) => Err("a list that goes on, without saying how".into()),
        (true, next) => Ok((objects, next)),
        (false, _) => Ok((objects, None)),
    }
}

fn object_of(tag: &mut ScopedDecoder<'_, '_>) -> Result<Object, String> {
    let (mut key, mut etag, mut size, mut modified) = (None, None, None, None);
    while let Some(mut field) = tag.next_tag() {
        let name = field.start_el().local().to_owned();
        if !matches!(name.as_str(), "Key" | "ETag" | "Size" | "LastModified") {
            continue;
        }
        let text = try_data(&mut field).map_err(|fault| fault.to_string())?.into_owned();
        match name.as_str() {
            "Key" => key = Some(text),
            "ETag" => etag = Some(text),
            "Size" => size = text.parse().ok(),
            _ => modified = text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond())),
        }
    }
    match (key, etag, size, modified) {
        (Some(key), Some(etag), Some(_), Some(_)) if !is_header(&etag) => {
            Err(format!("{key} is listed with the ETag {etag:?}; expected a hash in quotes"))
        }
        (Some(key), Some(etag), Some(size), Some(modified)) => Ok(Object { key, etag, size, modified }),
        (key, ..) => Err(format!("{} is listed without its ETag, Size or LastModified", key.as_deref().unwrap_or("an object"))),
    }
}

/// Whether a header of a request may say it: the object is asked for by its ETag.
fn is_header(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1_024 && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Code and message of an error.
pub(super) fn error_of(xml: &str) -> Option<(String, String)> {
    let mut document = Document::new(xml);
    let mut root = document.root_element().ok()?;
    let (mut code, mut message) = (None, String::new());
    while let Some(mut tag) = root.next_tag() {
        match tag.start_el().local() {
            "Code" => code = Some(try_data(&mut tag).ok()?.into_owned()),
            "Message" => message = try_data(&mut tag).ok()?.into_owned(),
            _ => {}
        }
    }
    code.map(|code| (code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p</Prefix>
            <IsTruncated>true</IsTruncated><NextContinuationToken>1ue+x/==</NextContinuationToken>
            <Contents><Key>p/a&amp;b.csv.gz</Key><LastModified>2026-08-03T10:15:00.000Z</LastModified><ETag>&quot;70ee-2&quot;</ETag><Size>434234</Size>
            <Owner><ID>x</ID></Owner><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"#;
    const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

    #[test]
    fn a_list_is_read_as_s3_writes_it() {
        let (objects, next) = listing(LIST).unwrap();
        let modified = Timestamp("2026-08-03T10:15:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond());
        assert_eq!(objects, [Object { key: "p/a&b.csv.gz".into(), etag: "\"70ee-2\"".into(), size: 434_234, modified }]);
        assert_eq!(next.as_deref(), Some("1ue+x/=="));
        for (bad, said) in [
            ("<html></html>", "<html> instead of"),
            ("", "no root"),
            (&LIST[..LIST.len() - 30], "a list that is cut off"),
            ("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "without saying how"),
            ("<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>", "k is listed without"),
            (&LIST.replace("&quot;70ee-2&quot;", "70&#10;X-Other: 1"), "is listed with the ETag"),
        ] {
            let fault = listing(bad).unwrap_err();
            assert!(fault.contains(said), "{bad}: {fault}");
        }
        assert_eq!(error_of(DENIED), Some(("AccessDenied".into(), "Access Denied".into())));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(crate::mutation::CASES))]

        #[test]
        fn whatever_s3_answers_is_objects_that_can_be_asked_for_or_refused_with_a_sentence(
            text in crate::mutation::text(&[LIST, DENIED]), etag in crate::mutation::text(&["&quot;70ee-2&quot;"])
        ) {
            for text in [&text, &LIST.replace("&quot;70ee-2&quot;", &etag)] {
            match listing(text) {
                Ok((objects, _)) => {
                    for object in objects {
                        let mut request = aws_smithy_runtime_api::client::orchestrator::HttpRequest::empty();
                        assert!(request.headers_mut().try_insert("if-match", object.etag.clone()).is_ok(), "{object:?}");
                    }
                }
                Err(fault) => assert!(fault.len() > 5, "{fault}"),
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
            assert!(listing(&text).is_err());
            assert_eq!(error_of(&text), None);
        }
    }
}
