//! `devhub serve`: everything in one process, until it is told to stop.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::data::Data;
use super::telemetry;
use crate::access::secrets::MasterKey;
use crate::api::{self, App};
use crate::clock::Clock;
use crate::config::{DataSettings, ServeSettings};
use crate::event_store::chain;
use crate::founding::{self, Founded};
use crate::samples;

/// How long requests in progress may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

pub(super) async fn run(data_settings: &DataSettings, settings: &ServeSettings) -> anyhow::Result<ExitCode> {
    telemetry::start(settings.log_format);
    let stop = stop_signal()?;
    // Before anything is started: a port that is taken should cost nothing.
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {} (set DEVHUB_LISTEN to another address)", settings.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    let data = Data::open(data_settings).await?;
    let served = serve(&data, data_settings, settings, listener, address, stop).await;
    data.close().await?;
    served?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    data: &Data,
    data_settings: &DataSettings,
    settings: &ServeSettings,
    listener: TcpListener,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    data.migrate().await?;
    let database = data.connect().await?;
    for cell in database.cells() {
        // New events would take the places of those that are missing in the histories of their tenants.
        chain::check_end(cell).await?;
    }
    let master = MasterKey::load(data_settings.master_key.as_ref(), &data_settings.state_dir)?;
    let (app, tasks) = App::start(database.clone(), Clock::system(), master, settings.limits()).await?;
    let prepared = prepare(&app, data, data_settings, settings, address).await;
    if prepared.is_ok() {
        let router = api::router(&app);
        drain(listener, router, stop).await?;
    }
    drop(app);
    tasks.stop(DRAIN).await;
    database.close().await;
    prepared
}

/// The founder, the samples, and what to tell whoever started the server.
async fn prepare(
    app: &App,
    data: &Data,
    data_settings: &DataSettings,
    settings: &ServeSettings,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let founded = founding::found(app, &settings.founder_email, settings.founder_password.as_ref())
        .await
        .context("the founder could not be created")?;
    if settings.samples {
        samples::load(app, &data_settings.state_dir).await.context("the samples could not be loaded")?;
    }
    let base = format!("http://{address}");
    println!("\nDevHub serves on {base}  ({})\n", data.describe());
    println!("  API documentation   {base}/api/docs");
    println!("  Health              {base}/health/ready");
    println!("  Sign in             POST {base}/api/auth/login  {{\"email\", \"password\"}}\n");
    match founded {
        Founded { email, password: Some(password) } => {
            println!("  Founder             {email}  {}", password.expose_secret());
            println!("                      this password was made up just now and is not shown again\n");
        }
        Founded { email, password: None } => println!("  Founder             {email}\n"),
    }
    if let Some((file, sign_ins)) = samples::sign_ins(app, &data_settings.state_dir).await? {
        println!("  Sample sign-ins, also in {}:\n", file.display());
        for line in sign_ins.lines() {
            println!("    {line}");
        }
        println!();
    }
    println!("Ctrl-C stops it.");
    Ok(())
}

/// Serves until `stop`, then lets requests in progress finish, for a while.
async fn drain(listener: TcpListener, router: axum::Router, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stopped(stop.clone()));
    tokio::select! {
        served = async { serving.await } => served.context("the server failed"),
        () = async {
            stopped(stop).await;
            tracing::info!("stopping: requests in progress are finished");
            tokio::time::sleep(DRAIN).await;
        } => Ok(()),
    }
}

/// Turns true at the first Ctrl-C or SIGTERM; at the second, the process ends at once.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be caught")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be caught")?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        let _ = sender.send(true);
        tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        std::process::exit(130);
    });
    Ok(receiver)
}
