//! Signing in with a token, for browsers without a proxy: a form, and a cookie that no script and no other site can use.
//!
//! Decides: what the cookie is. Does not: keep tokens: the cookie is the token, and every request is identified by it again.

use axum::extract::{Form, State};
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};

use super::identity::{COOKIE_NAME, Refused};
use super::{Held, frame};

/// Hours until the browser forgets the token; the token itself may end before.
const REMEMBERED_SECONDS: u32 = 8 * 3_600;
/// A token of a cluster is a few kilobytes at most.
const LONGEST: usize = 16_384;

#[derive(serde::Deserialize)]
pub(super) struct SignIn {
    token: String,
}

/// The form.
pub(super) async fn form() -> Response {
    frame::refused(StatusCode::OK, true, "Sign in with a bearer token of this cluster.", None)
}

/// Takes a token that the API server knows.
pub(super) async fn sign_in(State(console): Held, headers: HeaderMap, Form(form): Form<SignIn>) -> Response {
    let site = headers.get(HeaderName::from_static("sec-fetch-site")).and_then(|value| value.to_str().ok());
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return frame::refused(
            StatusCode::FORBIDDEN,
            true,
            "The form was sent from another site: open the console and sign in there.",
            None,
        );
    }
    let token = form.token.trim();
    // What a cookie can carry; a token has nothing else.
    let plain = |c: char| c.is_ascii_graphic() && !"\",;\\".contains(c);
    let outcome = match token.len() <= LONGEST && !token.is_empty() && token.chars().all(plain) {
        true => console.gate.person_of(token, console.now()).await.map(drop),
        false => Err(Refused::UnknownToken),
    };
    match outcome {
        Ok(()) => {
            let cookie = format!("{COOKIE_NAME}={token}; Path=/; Max-Age={REMEMBERED_SECONDS}; Secure; HttpOnly; SameSite=Strict");
            ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        Err(refused) => super::identity::Rejection::from(refused).into_response(),
    }
}

/// Forgets the token.
pub(super) async fn sign_out() -> Response {
    let cookie = format!("{COOKIE_NAME}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict");
    ([(SET_COOKIE, cookie)], Redirect::to("/sign-in")).into_response()
}
