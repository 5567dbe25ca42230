//! The page of each kind of problem: `type` is a link that leads somewhere.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::Path;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::{Problem, ProblemKind};

/// `GET /problems` and `GET /problems/{slug}`.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/problems", get(index)).route("/problems/{slug}", get(page))
}

async fn index() -> Html<String> {
    let mut list = String::new();
    for kind in ProblemKind::all() {
        let entry = kind.entry();
        let status = entry.status.as_u16();
        _ = write!(
            list,
            "<li><a href=\"{}\"><code>{}</code></a> {status}: {}</li>",
            kind.uri(),
            entry.code,
            entry.title
        );
    }
    Html(html("Problems", &format!("<p>Why a request can be refused.</p><ul>{list}</ul>")))
}

async fn page(Path(slug): Path<String>) -> Response {
    let Some(kind) = ProblemKind::from_slug(&slug) else {
        return Problem::not_found().into_response();
    };
    let entry = kind.entry();
    let mut body = format!(
        "<p>Status {}, <code>{}</code></p><p>{}</p><h2>What to do</h2><p>{}</p>",
        entry.status.as_u16(),
        entry.code,
        code_spans(entry.meaning),
        code_spans(entry.remedy),
    );
    if !entry.members.is_empty() {
        body.push_str("<h2>Members</h2><dl>");
        for (name, meaning) in entry.members {
            _ = write!(body, "<dt><code>{name}</code></dt><dd>{}</dd>", code_spans(meaning));
        }
        body.push_str("</dl>");
    }
    body.push_str("<p><a href=\"/problems\">All problems</a></p>");
    Html(html(entry.title, &body)).into_response()
}

/// The same table as Markdown, for the documentation.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Problems\n\n\
         Every refusal is an RFC 9457 document, `application/problem+json`, with `type`, `title`, `status`, `code`,\n\
         `request_id`, mostly `detail`, and `errors` where single fields or parameters are to blame. Its `type` is the\n\
         address of the page that explains it. A program looks at `code`.\n\n\
         This page is made from the table in `src/api/problem/kind.rs`; a test compares the two.\n",
    );
    for kind in ProblemKind::all() {
        let entry = kind.entry();
        let status = entry.status.as_u16();
        _ = write!(
            text,
            "\n## {} ({status})\n\n**{}.** {}\n\n{}\n",
            entry.code, entry.title, entry.meaning, entry.remedy
        );
        if !entry.members.is_empty() {
            text.push('\n');
        }
        for (name, meaning) in entry.members {
            _ = writeln!(text, "- `{name}`: {meaning}");
        }
    }
    text
}

fn html(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}\
         dt{{font-weight:600}}</style><h1>{title}</h1>{body}</html>"
    )
}

/// Turns `` `words` `` into `<code>words</code>`; the table holds nothing else that HTML would read.
fn code_spans(text: &str) -> String {
    let mut parts = text.split('`');
    let mut html = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        html.push_str(if number % 2 == 0 { "<code>" } else { "</code>" });
        html.push_str(part);
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/problems.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert_eq!(written, markdown(), "UPDATE_DOCS=1 cargo test writes docs/problems.md");
    }

    #[test]
    fn code_is_marked_up() {
        assert_eq!(code_spans("see `detail` and `rule`."), "see <code>detail</code> and <code>rule</code>.");
    }
}
