//! `devhub samples`: two businesses to try things out with.

use std::process::ExitCode;

use super::data::Data;
use crate::config::DataSettings;
use crate::{founding, samples};

pub(super) async fn run(settings: &DataSettings) -> anyhow::Result<ExitCode> {
    let data = Data::open(settings).await?;
    let loaded = data
        .work(async |app| {
            founding::ensure_tenants(app).await?;
            let loaded = samples::load(app, &settings.state_dir).await?;
            Ok(if loaded { samples::sign_ins(app, &settings.state_dir).await? } else { None })
        })
        .await;
    data.close().await?;
    match loaded? {
        Some((file, sign_ins)) => {
            println!("The samples are loaded. Sign in with, as {} says too:\n", file.display());
            println!("{sign_ins}");
        }
        None => println!("There are businesses already; nothing was loaded."),
    }
    Ok(ExitCode::SUCCESS)
}
