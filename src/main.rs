//! The `devhub` command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    devhub::cli::run().await
}
