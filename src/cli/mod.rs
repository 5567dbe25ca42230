//! The command line: one file a command. What a person needs goes to standard output, the log to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod data;
mod doctor;
mod legacy;
mod load;
mod log;
mod openapi;
mod projections;
mod samples;
mod serve;
mod telemetry;
mod unpark;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{DataSettings, LogFormat, ServeSettings};

/// DevHub: a CRM for many businesses whose history is never overwritten.
///
/// Every change is an event in PostgreSQL, tagged with the business it belongs to; what people read is projected
/// from those events. One `devhub serve` is a whole system: it needs a PostgreSQL (or starts its own), brings it
/// up to date, creates the platform founder, and serves the HTTP API.
#[derive(Debug, Parser)]
#[command(name = "devhub", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "The API explains itself at /api/docs of a running server. Settings can be given as flags \
                        or as environment variables; a flag wins.")]
struct Cli {
    #[command(flatten)]
    data: DataSettings,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the HTTP API.
    ///
    /// Starts a private PostgreSQL unless DATABASE_URL is set, brings the database up to date, creates the
    /// founder on the first start, and serves until Ctrl-C or SIGTERM: then requests in progress are finished,
    /// and the private PostgreSQL is stopped. After a crash, the next start picks up what is there.
    #[command(after_help = "Examples:\n  devhub serve\n  devhub serve --samples --listen 127.0.0.1:9000\n  \
                            DATABASE_URL=postgres://devhub@db/devhub devhub serve --log-format json")]
    Serve(Box<ServeSettings>),
    /// Bring the database up to date and end.
    ///
    /// Creates the roles, schemas and tables that are missing. `serve` does this by itself; run it on its own
    /// where the account that serves may not create roles or tables.
    Migrate,
    /// Say what this machine and database have and lack.
    ///
    /// Looks for PostgreSQL's server binaries, the state folder, the database, its roles, its version and
    /// migrations, the log and the read models. Changes nothing. Ends with 1 if something is wrong.
    Doctor {
        /// How to write the findings.
        #[arg(long, default_value = "text")]
        format: LogFormat,
    },
    /// Load the sample businesses into a database that has none.
    ///
    /// TNT-000 ACME Corporation and TNT-001 TechFlow Solutions, each with people of every role and some months
    /// of history. How to sign in as them is printed and kept in the state folder, for this database.
    Samples,
    /// Bring the old single-tenant application's database into the history of DEV-000.
    Legacy {
        #[command(subcommand)]
        command: legacy::LegacyCommand,
    },
    /// Drive a running server as the people of many businesses would, and say how fast it answered.
    ///
    /// Registers businesses of its own on the server, fills them with leads, and then reads, lists, changes and asks
    /// on every connection, one request after the other, for as long as it is told. What it wrote stays: use a server
    /// that is there to be measured. Ends with 1 if a request was refused.
    #[command(after_help = "Examples:\n  devhub load --connections 64 --seconds 60\n  \
                            devhub load --mix read=1 --format json")]
    Load(load::LoadSettings),
    /// Look after the read models: where they are, whether they are right, and making them anew from the log.
    Projections {
        #[command(subcommand)]
        command: projections::ProjectionsCommand,
    },
    /// Look after the log.
    Log {
        #[command(subcommand)]
        command: log::LogCommand,
    },
    /// Print the OpenAPI document.
    Openapi,
}

/// Runs the command that was asked for.
pub async fn run() -> ExitCode {
    let Cli { data, command } = Cli::parse();
    let done = match command {
        Command::Serve(settings) => serve::run(&data, &settings).await,
        Command::Migrate => data::migrate(&data).await,
        Command::Doctor { format } => doctor::run(&data, format).await,
        Command::Samples => samples::run(&data).await,
        Command::Legacy { command } => legacy::run(&data, command).await,
        Command::Load(settings) => load::run(settings).await,
        Command::Projections { command } => projections::run(&data, command).await,
        Command::Log { command } => log::run(&data, command).await,
        Command::Openapi => openapi::run(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("devhub: {error:#}");
            ExitCode::FAILURE
        }
    }
}
