//! Which requests are taken at all, and what every answer says to the browser.
//!
//! In: a request. Out: its answer. Promise: no other site can send our forms in a visitor's name, and a page runs and shows only what is ours.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::pages::Failed;

const SAYS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub async fn guard(request: Request, next: Next) -> Response {
    let mut response = match request.method().is_safe() || is_ours(request.headers()) {
        true => next.run(request).await,
        false => Failed::Foreign.into_response(),
    };
    for (name, value) in SAYS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a form was sent from one of our own pages. Browsers say so in headers that no script can set, so there is no token to hide in each form:
/// `Sec-Fetch-Site`, and, where an old browser has none, `Origin` beside `Host`. Who sends neither is no browser, and has no visitor's cookies.
fn is_ours(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(&HeaderName::from_static("sec-fetch-site")), text(&header::ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin.split_once("://").map(|(_, host)| host) == text(&header::HOST),
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(said: &[(&'static str, &'static str)]) -> bool {
        is_ours(&said.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect())
    }

    #[test]
    fn only_our_own_pages_send_forms() {
        assert!(ours(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(!ours(&[("sec-fetch-site", "same-site"), ("origin", "http://blog:3000"), ("host", "blog:3000")]));
        assert!(!ours(&[("sec-fetch-site", "cross-site")]));
        assert!(!ours(&[("sec-fetch-site", "none")]));
        assert!(ours(&[("origin", "http://blog:3000"), ("host", "blog:3000")]));
        assert!(!ours(&[("origin", "http://blog:3001"), ("host", "blog:3000")]));
        assert!(!ours(&[("origin", "null"), ("host", "blog:3000")]));
        assert!(!ours(&[("origin", "http://blog:3000")]));
        assert!(ours(&[("host", "blog:3000")]), "curl");
    }
}
