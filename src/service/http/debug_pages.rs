//! Pages for people and tools that look into a running server. At `/` is the admin page for browsers, and a
//! list of the others for everybody else.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::any;

use super::{admin_page, text};

/// A page that is written anew each time it is asked for.
#[derive(Clone)]
pub struct Page {
    /// Where it is.
    pub path: &'static str,
    /// What it tells, for the list.
    pub about: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// Writes it. May take a while: it is not done where anything else waits.
    pub write: Arc<dyn Fn() -> Bytes + Send + Sync>,
}

impl Page {
    /// A page of plain text.
    pub fn text(
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

/// The routes of the pages, of the list, and of the admin page.
pub fn pages(pages: Vec<Page>) -> Router {
    let others = [
        (
            "/healthcheck",
            "200 when the server should be sent requests",
        ),
        (
            "/api/v1/openapi.json",
            "the admin API, as OpenAPI describes it",
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
    let front = async move |headers: HeaderMap| {
        if admin_page::accepts_html(&headers) {
            admin_page::part("text/html; charset=utf-8", document)
        } else {
            text(StatusCode::OK, list)
        }
    };
    let router = admin_page::parts().route("/", any(front));
    pages.into_iter().fold(router, |router, page| {
        let Page {
            path, kind, write, ..
        } = page;
        let show = async move || {
            match tokio::task::spawn_blocking(move || write()).await {
                Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
                // It panicked, and the log says where.
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        };
        router.route(path, any(show))
    })
}
