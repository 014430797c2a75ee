//! Who is let in, and what they see.

use lowtide::console::POLICY;

use super::http::send;
use super::stage::Stage;

const PAGES: [&str; 8] = ["/market", "/machines", "/moves", "/pods", "/savings", "/plans", "/anomalies", "/trust"];

pub async fn nobody_is_let_in_without_a_name_that_somebody_vouches_for(stage: &Stage) {
    for path in PAGES.into_iter().chain(["/pods/ml/chat-0", "/sql/savings", "/live", "/no-such-page"]) {
        let answer = send(stage.console, &format!("GET {path}"), &[], "").await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.body.starts_with("Nobody is signed in. Expected a bearer token"), "{path}: {}", answer.body);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert_eq!((answer.header("content-security-policy"), answer.header("cache-control")), (POLICY, "no-store"), "{path}");
    }
    let page = send(stage.console, "GET /savings", &[("accept", "text/html")], "").await;
    assert!(page.status == 401 && page.body.contains("<form class=\"sign-in\"") && page.body.contains("Nobody is signed in."), "{page:?}");
    for (token, status, sentence) in [
        ("no-token", 401, "The API server does not know this token"),
        (stage.nobody.as_str(), 403, "system:serviceaccount:web:nobody may see nothing here"),
    ] {
        let answer = send(stage.console, "GET /market", &[("authorization", &format!("Bearer {token}"))], "").await;
        assert!(answer.status == status && answer.body.contains(sentence), "{answer:?}");
    }
}

pub async fn a_reader_of_one_namespace_sees_its_pods_and_money_and_no_others(stage: &Stage) {
    let pods = stage.page(&stage.reader, "/pods").await;
    assert!(pods.status == 200 && pods.body.contains("ml/chat-0") && !pods.body.contains("web/site-0"), "{}", pods.body);
    let savings = stage.page(&stage.reader, &format!("/savings?month={}", Stage::month())).await;
    assert!(savings.body.contains("ml-team") && !savings.body.contains("web-team"), "{}", savings.body);
    let machines = stage.page(&stage.reader, "/machines").await;
    assert!(machines.body.contains("lt-ml-1") && !machines.body.contains("lt-web-1"), "those that hold its pods: {}", machines.body);
    let shared = stage.page(&stage.reader, "/pods/ml/chat-0").await;
    assert!(shared.status == 200 && !shared.body.contains("site-0"), "whose work stands beside is not theirs to know");
    let market = stage.page(&stage.reader, "/market").await;
    assert!(
        market.body.contains("more expensive (1)") && !market.body.contains("vCPU quota"),
        "refusals of its own decisions alone: {}",
        market.body
    );
    for path in ["/pods/web/site-0", "/pods/web/no-such"] {
        let answer = stage.page(&stage.reader, path).await;
        assert!(answer.status == 404 && answer.body.contains("that you may see"), "{path}: one and the same answer");
    }
    for path in ["/plans", "/anomalies", "/trust"] {
        let answer = stage.page(&stage.reader, path).await;
        assert!(answer.status == 403 && answer.body.contains("get ledger.lowtide.dev"), "{path}");
        assert!(!savings.body.contains(&format!("href=\"{path}\"")), "{path} is no part of the navigation");
    }
    let statement = stage.page(&stage.reader, "/sql/bridge?month=2026-07-01&namespaces=web").await;
    assert!(
        statement.body.contains("string_to_array(&#39;ml&#39;") || statement.body.contains("string_to_array('ml'"),
        "its own namespaces: {}",
        statement.body
    );
}

pub async fn finance_sees_everything(stage: &Stage) {
    for path in PAGES {
        let answer = stage.page(&stage.finance, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    let savings = stage.page(&stage.finance, &format!("/savings?month={}", Stage::month())).await.body;
    assert!(savings.contains("ml-team") && savings.contains("web-team"));
    let pods = stage.page(&stage.finance, "/pods").await.body;
    assert!(pods.contains("ml/chat-0") && pods.contains("web/site-0"));
    assert!(stage.page(&stage.finance, "/machines").await.body.contains("lt-web-1"));
}

pub async fn a_trusted_proxy_is_believed_and_nobody_else(stage: &Stage) {
    let headers = [("x-forwarded-user", "ann@example.com"), ("x-forwarded-groups", "others,ml-people"), ("accept", "text/html")];
    let pods = send(stage.behind_a_proxy, "GET /pods", &headers, "").await;
    assert!(
        pods.status == 200 && pods.body.contains("ml/chat-0") && !pods.body.contains("web/site-0") && pods.body.contains("ann@example.com"),
        "{pods:?}"
    );
    let unknown = send(stage.behind_a_proxy, "GET /pods", &[("x-forwarded-user", "bob@example.com")], "").await;
    assert!(unknown.status == 403 && unknown.body.starts_with("bob@example.com may see nothing here"), "{unknown:?}");
    let raised = [("x-forwarded-user", "ann"), ("x-forwarded-groups", "system:masters")];
    assert_eq!(send(stage.behind_a_proxy, "GET /pods", &raised, "").await.status, 401, "a proxy makes nobody a master");
    let direct = send(stage.console, "GET /pods", &headers[..2], "").await;
    assert!(
        direct.status == 401 && direct.body.contains("x-forwarded-user came from 127.0.0.1, which is no configured proxy"),
        "{direct:?}"
    );
}

pub async fn the_form_leaves_a_cookie_that_no_script_reads(stage: &Stage) {
    let body = format!("token={}", stage.reader);
    let signed_in = send(stage.console, "POST /sign-in", &[("sec-fetch-site", "same-origin")], &body).await;
    let cookie = signed_in.header("set-cookie");
    assert!(signed_in.status == 303 && cookie.starts_with("__Host-lowtide="), "{signed_in:?}");
    for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(attribute), "{attribute}");
    }
    let sent = cookie.split(';').next().unwrap();
    assert_eq!(send(stage.console, "GET /pods", &[("cookie", sent)], "").await.status, 200);
    assert_eq!(send(stage.console, "POST /sign-in", &[("sec-fetch-site", "cross-site")], &body).await.status, 403);
    assert_eq!(send(stage.console, "POST /sign-in", &[], "token=no%3Btoken").await.status, 401);
}
