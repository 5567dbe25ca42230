//! `devhub samples`: two businesses to try things out with.

use std::process::ExitCode;
use std::time::Duration;

use super::data::Data;
use crate::access::secrets::MasterKey;
use crate::api::App;
use crate::api::limits::RateLimits;
use crate::clock::Clock;
use crate::config::DataSettings;
use crate::{founding, samples};

pub(super) async fn run(settings: &DataSettings) -> anyhow::Result<ExitCode> {
    let data = Data::open(settings).await?;
    let loaded = load(&data, settings).await;
    data.close().await?;
    if loaded? {
        println!("The samples are loaded. Sign in with:\n");
        println!("{}", samples::sign_ins(&settings.state_dir)?.unwrap_or_default());
    } else {
        println!("There are businesses already; nothing was loaded.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn load(data: &Data, settings: &DataSettings) -> anyhow::Result<bool> {
    data.migrate().await?;
    let database = data.connect().await?;
    let master = MasterKey::load(settings.master_key.as_ref(), &settings.state_dir)?;
    let (app, tasks) = App::start(database.clone(), Clock::system(), master, RateLimits::default()).await?;
    let loaded = async {
        founding::ensure_tenants(&app).await?;
        samples::load(&app, &settings.state_dir).await
    }
    .await;
    drop(app);
    tasks.stop(Duration::from_secs(10)).await;
    database.close().await;
    loaded
}
