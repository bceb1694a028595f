//! Pages of the debug port. `/` is the admin page for browsers, and a list of the other pages for other clients.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::any;

use super::{admin_page, text};

/// A page that is generated for each request.
#[derive(Clone)]
pub(crate) struct Page {
    /// Path of the URL.
    pub path: &'static str,
    /// Description for the list of pages.
    pub about: &'static str,
    /// Media type.
    pub kind: &'static str,
    /// Generates the text. Runs on a blocking thread, because it can take long.
    pub write: Arc<dyn Fn() -> Bytes + Send + Sync>,
}

impl Page {
    /// Creates a page of plain text.
    pub(crate) fn text(
        path: &'static str,
        about: &'static str,
        write: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        Self {
            path,
            about,
            kind: "text/plain; charset=utf-8",
            write: Arc::new(move || write().into()),
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Returns the routes of the pages, of the list, and of the admin page.
pub(crate) fn pages(pages: Vec<Page>) -> Router {
    let others = [
        (
            "/healthcheck",
            "200 if the server accepts requests, 500 otherwise",
        ),
        (
            "/api/v1/openapi.json",
            "description of the admin API (OpenAPI)",
        ),
    ];
    let all = || {
        pages
            .iter()
            .map(|page| (page.path, page.about))
            .chain(others)
    };
    let list: String = all()
        .map(|(path, about)| format!("{path}: {about}\n"))
        .collect();
    let document = admin_page::document(all());
    let index = async move |headers: HeaderMap| {
        if admin_page::accepts_html(&headers) {
            admin_page::part("text/html; charset=utf-8", document)
        } else {
            text(StatusCode::OK, list)
        }
    };
    let router = admin_page::parts().route("/", any(index));
    pages.into_iter().fold(router, |router, page| {
        let Page {
            path, kind, write, ..
        } = page;
        let generate = async move || {
            match tokio::task::spawn_blocking(move || write()).await {
                Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
                // The log has the location of the panic.
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        };
        router.route(path, any(generate))
    })
}
