//! How long pages take with 5,000 machines; asked for by `tests/console/run.sh`.

use std::time::Instant;

use super::stage::Stage;

/// Machines unless `LOWTIDE_CONSOLE_MACHINES` says otherwise.
const MACHINES: usize = 5_000;
const TIMES: usize = 20;

/// Prints the first answer, which reads the ledger, and the median and the slowest of those that follow. Asserts no time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, of minutes: tests/console/run.sh --speed"]
async fn pages_with_thousands_of_machines() {
    let machines = std::env::var("LOWTIDE_CONSOLE_MACHINES").ok().and_then(|n| n.parse().ok()).unwrap_or(MACHINES);
    let stage = Stage::start(machines).await;
    println!("{:<22} {:>8} {:>10} {:>10} {:>10}", "page", "bytes", "first ms", "median ms", "slowest ms");
    for path in ["/market", "/machines", "/moves", "/pods", "/pods/ml/chat-0", "/savings", "/plans", "/anomalies", "/trust"] {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..=TIMES {
            let begun = Instant::now();
            let page = stage.page(&stage.finance, path).await;
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
            assert_eq!(page.status, 200, "{path}");
            assert!(!page.body.contains("does not answer"), "{path}: {}", page.body);
            bytes = page.body.len();
        }
        let first = times.remove(0);
        times.sort_by(f64::total_cmp);
        println!("{path:<22} {bytes:>8} {first:>10.1} {:>10.1} {:>10.1}", times[TIMES / 2], times[TIMES - 1]);
    }
}
