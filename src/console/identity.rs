//! Who asks: by a token that the API server knows, or by the word of an authentication proxy.
//!
//! Decides: which of the two holds, whose headers are believed (those of configured networks, and no others), and how long an answer of the API server
//! holds ([`HOLDS`]).
//! Does not: know tokens or groups itself: TokenReview does. What somebody may see is asked in [`super::rights`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{ACCEPT, AUTHORIZATION, COOKIE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};

use super::rights::Rights;
use super::{Console, ConsoleSettings, frame};
use crate::core::units::time::{Millis, Timestamp};
use crate::kube::errors::call;
use crate::ports::ClusterError;

/// An answer about somebody holds this long: a right that is taken away is gone after at most a minute.
pub(super) const HOLDS: Millis = Millis::from_secs(60);
/// Answers that are kept; the oldest goes first.
const KEPT: usize = 1_000;
/// The cookie that the sign-in form leaves: only over TLS or on this machine, never to a script, never from another site.
pub(super) const COOKIE_NAME: &str = "__Host-lowtide";

/// Somebody, as the API server knows them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Person {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Somebody who asks for a page, with what they may see.
pub(crate) struct Visitor {
    pub person: Person,
    pub rights: Rights,
}

/// What a request says of who sent it.
#[derive(Debug, PartialEq, Eq)]
enum Credential {
    Token(String),
    Proxied { user: String, groups: Vec<String> },
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "Nobody is signed in. Expected a bearer token of this cluster (kubectl create token ... makes one), or the headers of an authentication proxy."
    )]
    Nobody,
    #[error(
        "The header {header} came from {peer}, which is no configured proxy: it is not believed. Start the console with --trusted-proxy, or use a token."
    )]
    NotAProxy { header: HeaderName, peer: IpAddr },
    #[error("The header {header} says {said:?}; expected a name once, and none that begins with system:, which is no proxy's to give.")]
    BadHeader { header: HeaderName, said: String },
    #[error("The API server does not know this token: it has expired, or is of another cluster.")]
    UnknownToken,
    #[error(
        "{0} may see nothing here: expected the right to list pods in a namespace (for its pods and money), to list gpunodeclaims.lowtide.dev (machines), \
         or to get ledger.lowtide.dev (everything)."
    )]
    NoRights(String),
    #[error("{0} may not see this page: expected the right to {1}.")]
    NotThis(String, &'static str),
    #[error("The API server did not say who this is: {0}")]
    Cluster(#[from] ClusterError),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Refused::NoRights(_) | Refused::NotThis(..) => StatusCode::FORBIDDEN,
            Refused::Cluster(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

/// A refusal in the form that was asked for.
pub(crate) struct Rejection {
    refused: Refused,
    as_page: bool,
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        if let Refused::Cluster(fault) = &self.refused {
            tracing::warn!("somebody could not be identified: {fault}");
        }
        frame::refused(self.refused.status(), self.as_page, &self.refused.to_string(), None)
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        Rejection { refused, as_page: true }
    }
}

/// Answers, and when they were given.
pub(super) type Answers<K, V> = Mutex<BTreeMap<K, (Timestamp, V)>>;

/// What the API server said of people, and whose headers are believed.
pub(crate) struct Gate {
    pub(super) client: Client,
    proxies: Vec<IpNet>,
    user_header: HeaderName,
    groups_header: HeaderName,
    /// By SHA-256 of the token, which itself is kept nowhere.
    people: Answers<[u8; 32], Option<Person>>,
    pub(super) rights: Answers<Person, Rights>,
}

/// Puts an answer where it is kept, and lets those go that hold no longer.
pub(super) fn keep<K: Ord + Clone, V>(kept: &Answers<K, V>, key: K, value: V, now: Timestamp) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= KEPT {
        kept.retain(|_, (at, _)| now.since(*at) < HOLDS);
    }
    if kept.len() < KEPT {
        kept.insert(key, (now, value));
    }
}

/// The answer that is kept and still holds.
pub(super) fn kept<K: Ord, V: Clone>(kept: &Answers<K, V>, key: &K, now: Timestamp) -> Option<V> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.get(key).filter(|(at, _)| now.since(*at) < HOLDS).map(|(_, value)| value.clone())
}

impl Gate {
    /// Nobody has been asked about yet.
    pub fn new(client: Client, settings: &ConsoleSettings) -> Gate {
        Gate {
            client,
            proxies: settings.proxies.clone(),
            user_header: settings.user_header.clone(),
            groups_header: settings.groups_header.clone(),
            people: Mutex::default(),
            rights: Mutex::default(),
        }
    }

    fn credential(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Credential, Refused> {
        let said = headers.contains_key(&self.user_header);
        let believed = self.proxies.iter().any(|network| network.contains(&peer.to_canonical()));
        if said && believed {
            return self.proxied(headers);
        }
        match token_of(headers) {
            Some(token) => Ok(Credential::Token(token)),
            None if said => Err(Refused::NotAProxy { header: self.user_header.clone(), peer }),
            None => Err(Refused::Nobody),
        }
    }

    fn proxied(&self, headers: &HeaderMap) -> Result<Credential, Refused> {
        let names: Vec<&str> = headers.get_all(&self.user_header).iter().map(|value| value.to_str().unwrap_or_default().trim()).collect();
        let bad = |header: &HeaderName, said: &str| Refused::BadHeader { header: header.clone(), said: said.to_owned() };
        let [user] = names.as_slice() else { return Err(bad(&self.user_header, &names.join(", "))) };
        if user.is_empty() || user.starts_with("system:") {
            return Err(bad(&self.user_header, user));
        }
        let lines = headers.get_all(&self.groups_header).iter().map(|value| value.to_str().unwrap_or_default());
        let groups: Vec<String> = lines.flat_map(|line| line.split(',')).map(|g| g.trim().to_owned()).filter(|g| !g.is_empty()).collect();
        if let Some(group) = groups.iter().find(|group| group.starts_with("system:")) {
            return Err(bad(&self.groups_header, group));
        }
        Ok(Credential::Proxied { user: (*user).to_owned(), groups })
    }

    /// Whose token it is.
    pub async fn person_of(&self, token: &str, now: Timestamp) -> Result<Person, Refused> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = kept(&self.people, &digest, now) {
            return known.ok_or(Refused::UnknownToken);
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer =
            call("ask whose token it is", Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review)).await?;
        let user = answer.status.filter(|status| status.authenticated == Some(true)).and_then(|status| status.user);
        let person = user.and_then(|user| {
            let name = user.username.filter(|name| !name.is_empty() && name != "system:anonymous")?;
            Some(Person { name, uid: user.uid, groups: user.groups.unwrap_or_default(), extra: user.extra.unwrap_or_default() })
        });
        keep(&self.people, digest, person.clone(), now);
        person.ok_or(Refused::UnknownToken)
    }

    async fn person(&self, credential: Credential, now: Timestamp) -> Result<Person, Refused> {
        match credential {
            Credential::Token(token) => self.person_of(&token, now).await,
            Credential::Proxied { user, mut groups } => {
                groups.push("system:authenticated".to_owned());
                Ok(Person { name: user, uid: None, groups, extra: BTreeMap::new() })
            }
        }
    }
}

/// The bearer token, or that of the sign-in form's cookie.
fn token_of(headers: &HeaderMap) -> Option<String> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let cookie = || {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(';')).find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE_NAME).then(|| value.to_owned())
        })
    };
    bearer.or_else(cookie).filter(|token| !token.is_empty())
}

/// Whether a page is asked for, and not an answer for a program.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

impl FromRequestParts<Arc<Console>> for Visitor {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Visitor, Rejection> {
        let as_page = wants_page(&parts.headers);
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let let_in = async {
            // Without an address nobody is a proxy.
            let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
            let now = console.now();
            let person = console.gate.person(console.gate.credential(&parts.headers, peer)?, now).await?;
            let rights = console.gate.rights_of(&person, || console.watched.namespaces(), now).await?;
            if rights.see_nothing() {
                return Err(Refused::NoRights(person.name));
            }
            Ok(Visitor { person, rights })
        };
        let_in.await.map_err(|refused| Rejection { refused, as_page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> (Vec<IpNet>, HeaderName, HeaderName) {
        (
            vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            HeaderName::from_static("x-user"),
            HeaderName::from_static("x-groups"),
        )
    }

    async fn asked(pairs: &[(&'static str, &str)], peer: &str) -> Result<Credential, String> {
        let (proxies, user_header, groups_header) = gate();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(kube::Config::new("https://127.0.0.1:1".parse().unwrap())).unwrap();
        let gate = Gate { client, proxies, user_header, groups_header, people: Mutex::default(), rights: Mutex::default() };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        gate.credential(&headers, peer.parse().unwrap()).map_err(|refused| refused.to_string())
    }

    #[tokio::test]
    async fn headers_are_believed_from_configured_networks_alone() {
        let headers = [("x-user", "ann"), ("x-groups", "ml, search"), ("x-groups", "ops")];
        let expected = Credential::Proxied { user: "ann".into(), groups: ["ml", "search", "ops"].map(String::from).to_vec() };
        assert_eq!(asked(&headers, "10.1.2.3").await, Ok(expected));
        assert!(asked(&headers, "::ffff:10.1.2.3").await.is_ok(), "the same address, as a socket for both families has it");
        let refused = asked(&headers, "10.2.0.1").await.unwrap_err();
        assert!(refused.contains("x-user came from 10.2.0.1, which is no configured proxy"), "{refused}");
        let with_token = [("x-user", "ann"), ("authorization", "Bearer t")];
        assert_eq!(asked(&with_token, "10.2.0.1").await, Ok(Credential::Token("t".into())));
    }

    #[tokio::test]
    async fn a_proxy_gives_one_name_and_nothing_of_the_system() {
        for headers in [
            &[("x-user", "system:admin")][..],
            &[("x-user", "ann"), ("x-user", "bob")],
            &[("x-user", " ")],
            &[("x-user", "ann"), ("x-groups", "ml,system:masters")],
        ] {
            let refused = asked(headers, "10.1.0.1").await.unwrap_err();
            assert!(refused.contains("none that begins with system:"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_token_is_read_from_the_header_before_the_cookie() {
        let token = |t: &str| Ok(Credential::Token(t.to_owned()));
        assert_eq!(asked(&[("authorization", "bearer  a"), ("cookie", "__Host-lowtide=b")], "9.9.9.9").await, token("a"));
        assert_eq!(asked(&[("cookie", "x=1; __Host-lowtide=b")], "9.9.9.9").await, token("b"));
        for nobody in [&[][..], &[("authorization", "Basic YTpi")], &[("cookie", "__Host-lowtide=")], &[("authorization", "Bearer ")]] {
            assert!(asked(nobody, "9.9.9.9").await.unwrap_err().starts_with("Nobody is signed in."));
        }
    }
}
