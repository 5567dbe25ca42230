//! `devhub samples`: two businesses to try things out with.

use std::process::ExitCode;

use super::data::Data;
use crate::config::DataSettings;
use crate::{founding, samples};

pub(super) async fn run(settings: &DataSettings) -> anyhow::Result<ExitCode> {
    let data = Data::open(settings).await?;
    let loaded = data
        .work(settings, async |app| {
            founding::ensure_tenants(app).await?;
            samples::load(app, &settings.state_dir).await
        })
        .await;
    data.close().await?;
    if loaded? {
        println!("The samples are loaded. Sign in with:\n");
        println!("{}", samples::sign_ins(&settings.state_dir)?.unwrap_or_default());
    } else {
        println!("There are businesses already; nothing was loaded.");
    }
    Ok(ExitCode::SUCCESS)
}
