//! What pages show.

use std::time::Duration;

use lowtide::lab::console::{sql_of, statements_of};
use tokio::io::AsyncReadExt;

use super::http::{open, send};
use super::stage::Stage;

pub async fn every_page_shows_what_is_there_and_every_figure_has_its_statement(stage: &Stage) {
    let month = Stage::month();
    let [savings, plans, trust] = ["savings", "plans", "trust"].map(|page| format!("/{page}?month={month}"));
    let expected: [(&str, &[&str]); 9] = [
        // The shade is against an on-demand price that has held for a year.
        ("/market", &["us-east-1", "use1-az2", "$0.3100", "more expensive (1)", "3 h", "class=\"cell s1\""]),
        ("/market?region=eu-west-1", &["euw1-az1", "$0.3600"]),
        ("/market?region=us-east-1&capacity=on-demand", &["$0.8048"]),
        ("/machines", &["lt-ml-1", "g5.xlarge", "0.9500", "is being left"]),
        ("/machines?q=lt-web", &["lt-web-1"]),
        (&savings, &["Spot saved $", "ml-team", "The bridge from", &month, "<svg"]),
        (&plans, &["everything", "above plan", "In four of five cases", "pessimistic", "<svg"]),
        ("/anomalies", &["chat", "quantity", "00000000"]),
        (&trust, &["spend computed from recorded prices", "Seals"]),
    ];
    let mut asked = std::collections::BTreeSet::new();
    for (path, texts) in expected {
        let page = stage.page(&stage.finance, path).await;
        assert_eq!(page.status, 200, "{path}");
        for text in texts {
            assert!(page.body.contains(text), "{path} does not say {text:?}:\n{}", page.body);
        }
        for figure in page.body.split("<figure>").skip(1) {
            let figure = figure.split("</figure>").next().unwrap();
            assert!(figure.contains("href=\"/sql/"), "{path}: a figure without its statement:\n{figure}");
        }
        let outside: String = page.body.split("<figure>").map(|part| part.rsplit("</figure>").next().unwrap()).collect();
        assert!(!outside.contains("<table") && !outside.contains("<svg"), "{path}: a table or chart outside of a figure");
        asked.extend(statements_of(&page.body));
    }
    asked.extend(statements_of(&stage.page(&stage.finance, "/pods/ml/chat-0").await.body));
    asked.extend(statements_of(&stage.page(&stage.finance, "/moves").await.body));
    assert!(asked.len() >= 14, "{asked:?}");
    // Each is what psql takes, with the rights of finance.
    let url = stage.postgres.url_for("finance", "postgres");
    for link in asked {
        let page = stage.page(&stage.finance, &link).await;
        assert_eq!(page.status, 200, "{link}");
        let sql = sql_of(&page.body).unwrap();
        let answer = std::process::Command::new("psql").args(["-X", "-v", "ON_ERROR_STOP=1", &url, "-c", &sql]).output().unwrap();
        assert!(answer.status.success(), "{link}: {}\n{sql}", String::from_utf8_lossy(&answer.stderr));
    }
}

pub async fn a_pod_is_explained_with_what_it_beat_and_what_would_change_it(stage: &Stage) {
    let page = stage.page(&stage.reader, "/pods/ml/chat-0").await.body;
    for text in [
        "lt-ml-1",
        "$0.3100/h",
        "Placed",
        "Bought g6.xlarge spot in use1-az1",
        "4 offers were refused: 3 more expensive, 1 cooling down after a refusal",
        "would have to fall by 20.0 %, below $0.3200/h",
        "it is judged again when its cool-down is over",
    ] {
        assert!(page.contains(text), "{text:?} is not in\n{page}");
    }
    // The ledger's words for reasons are for machines.
    for code in ["dearer", "cooling-down"] {
        assert!(!page.contains(code), "{code:?} is in\n{page}");
    }
}

pub async fn a_move_stands_against_its_deadline(stage: &Stage) {
    let page = stage.page(&stage.reader, "/moves").await.body;
    for text in ["lt-old", "interruption-notice", "ml/chat-1 on its way", "ml/chat-2", "EC2 takes it", "node Ready", "9 moves", "are left"]
    {
        assert!(page.contains(text), "{text:?} is not in\n{page}");
    }
}

pub async fn hostile_names_are_text(stage: &Stage) {
    let mut escaped = 0;
    let savings = format!("/savings?month={}", Stage::month());
    for path in [
        savings.as_str(),
        "/plans",
        "/anomalies?hours=200",
        "/pods/ml/chat-0",
        "/pods?q=%3Cscript%3Ealert(4)%3C/script%3E",
        "/pods/ml/%3Cscript%3Ealert(5)%3C%2Fscript%3E",
        "/machines?q=%22%3E%3Cscript%3Ealert(6)",
    ] {
        let page = stage.page(&stage.finance, path).await.body;
        escaped += page.matches("&lt;script&gt;alert(").count() + page.matches("&lt;img src=x").count();
        assert!(!page.contains("<script>alert(") && !page.contains("<img") && !page.contains("<b>bold"), "{path}:\n{page}");
    }
    assert!(escaped >= 5, "the hostile names were on the pages: {escaped}");
}

pub async fn open_pages_hear_of_changes(stage: &Stage) {
    let bearer = format!("Bearer {}", stage.reader);
    let mut stream = open(stage.console, "GET /live?every=60", &[("authorization", &bearer)], "").await;
    let mut seen = String::new();
    let changes = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        stage.plane.kubectl(&["annotate", "gpunodeclaim", "lt-web-1", "example.com/touched=yes"]).unwrap();
    };
    let heard = async {
        let mut buffer = [0_u8; 4_096];
        while !seen.contains("event: changed\ndata: page\n\n") {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the stream ended: {seen}");
            seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(changes, heard) }).await.expect("an event within half a minute");
    assert!(seen.contains("text/event-stream"), "{seen}");
}

pub async fn without_a_ledger_pages_say_so(stage: &Stage) {
    let bearer = format!("Bearer {}", stage.finance);
    let headers = [("authorization", bearer.as_str()), ("accept", "text/html")];
    for path in ["/market", "/savings", "/plans", "/anomalies", "/trust", "/moves", "/pods/ml/chat-0"] {
        let page = send(stage.without_ledger, &format!("GET {path}"), &headers, "").await;
        assert!(page.status == 200 && page.body.contains("This console has no ledger"), "{path}: {page:?}");
    }
    let machines = send(stage.without_ledger, "GET /machines", &headers, "").await.body;
    assert!(machines.contains("lt-ml-1"), "what the cluster has is shown");
}
