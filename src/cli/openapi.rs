//! `devhub openapi`: the document that the routes make.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let document = crate::api::document().context("the OpenAPI document cannot be written")?;
    std::io::stdout().write_all(document.as_bytes()).context("standard output is closed")?;
    Ok(ExitCode::SUCCESS)
}
