//! The pages in a real browser: asked for by `tests/console/run.sh`, which knows where it is.

use std::process::Command;

use super::stage::Stage;

/// Keyboard, narrow screen, dark, without JavaScript, and what axe-core finds: `tests/console/browser.mjs` looks, and writes the screenshot of the documents.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Chromium and Node: tests/console/run.sh"]
async fn people_can_use_it() {
    let stage = Stage::start(0).await;
    let mut look = Command::new("node");
    look.arg("tests/console/browser.mjs").env("CONSOLE_URL", format!("http://{}", stage.console));
    look.env("FINANCE_TOKEN", &stage.finance).env("READER_TOKEN", &stage.reader);
    let looked = tokio::task::spawn_blocking(move || look.status()).await.unwrap().unwrap();
    assert!(looked.success(), "tests/console/browser.mjs says what is wrong");
}
