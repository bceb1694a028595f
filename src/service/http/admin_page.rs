//! The admin page: an HTML document with its style sheet and modules, which are compiled into the program.
//!
//! It displays the documents of the admin API. Texts from clients are untrusted: the Content-Security-Policy allows no
//! other resources, no inline scripts, and no requests to other origins.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;

/// Content-Security-Policy of the page.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
);

/// Placeholder in the document for the list of debug pages.
const PAGES: &str = "<!-- pages -->";

/// Expands to (path, media type, content) of each file.
macro_rules! parts {
    ($($name:literal: $kind:literal),* $(,)?) => {
        [$((concat!("/page/", $name), concat!($kind, "; charset=utf-8"), include_str!(concat!("admin_page/", $name)))),*]
    };
}

const PARTS: [(&str, &str, &str); 16] = parts! {
    "style.css": "text/css",
    "banner.js": "text/javascript",
    "bucket.js": "text/javascript",
    "chart.js": "text/javascript",
    "configuration.js": "text/javascript",
    "explain.js": "text/javascript",
    "gauge.js": "text/javascript",
    "main.js": "text/javascript",
    "overview.js": "text/javascript",
    "rates.js": "text/javascript",
    "rules.js": "text/javascript",
    "api.js": "text/javascript",
    "table.js": "text/javascript",
    "top.js": "text/javascript",
    "tree.js": "text/javascript",
    "render.js": "text/javascript",
};

/// Returns the routes of the files that the document loads.
pub(super) fn parts() -> Router {
    PARTS
        .into_iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            router.route(path, any(async move || part(kind, text)))
        })
}

/// Returns the document, with links to debug pages that are given as (path, description).
pub(super) fn document<'a>(pages: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let links: Vec<String> = pages
        // Relative, because a proxy such as `kubectl proxy` adds a prefix to the path.
        .map(|(path, about)| {
            let (target, path, about) = (escaped(&path[1..]), escaped(path), escaped(about));
            format!("    <li><a href=\"{target}\">{path}</a>: {about}</li>")
        })
        .collect();
    include_str!("admin_page/index.html").replace(PAGES, &links.join("\n"))
}

/// Returns whether the client accepts HTML explicitly, as browsers do.
pub(super) fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter();
    let mut ranges = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_excluded = |part: &str| {
            let quality = part.strip_prefix("q=").or(part.strip_prefix("Q="));
            quality.is_some_and(|quality| quality.parse() == Ok(0.0_f32))
        };
        is_html && !parts.any(is_excluded)
    })
}

/// Returns a response with a file. Browsers must revalidate it, because the next version of the server has other files.
pub(super) fn part(kind: &'static str, text: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    (headers, text.into()).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_for_clients_that_accept_it_explicitly() {
        let accepts = |value: &'static str| {
            accepts_html(&HeaderMap::from_iter([(
                header::ACCEPT,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(accepts("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert!(accepts("application/json, TEXT/HTML ; q=0.5"));
        for value in [
            "*/*",
            "",
            "text/*",
            "text/plain",
            "text/html;q=0",
            "text/html2",
        ] {
            assert!(!accepts(value), "{value}");
        }
        assert!(!accepts_html(&HeaderMap::new()));
    }

    #[test]
    fn the_document_links_the_pages() {
        let document = document([("/a", "what <b> & \"c\" have")].into_iter());
        assert!(
            document
                .contains("<li><a href=\"a\">/a</a>: what &lt;b> &amp; &quot;c&quot; have</li>")
        );
        assert!(!document.contains(PAGES));
    }

    #[test]
    fn every_import_exists() {
        let text = |name: &str| {
            let part = PARTS
                .iter()
                .find(|(path, ..)| *path == format!("/page/{name}"));
            part.map(|(.., text)| *text)
        };
        for (path, kind, module) in PARTS {
            assert!(
                !module.contains("innerHTML") && !module.contains("://")
                    || path.ends_with("render.js"),
                "{path}"
            );
            let imports = module.split("from \"./").skip(1);
            for name in imports.filter_map(|rest| rest.split('"').next()) {
                assert!(text(name).is_some(), "{path} imports {name}");
            }
            assert!(kind.ends_with("utf-8"), "{path}");
        }
    }
}
