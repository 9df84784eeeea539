//! `starling migrate`: brings the schema of the database up to date.

use anyhow::anyhow;
use starling_trust::install_provider;

use crate::Layers;
use crate::config::Config;
use crate::database::Database;
use crate::failure::Failure;
use crate::output::print;
use crate::process::runtime;

/// Brings the schema up to date. `restored`: also begins a new incarnation of the database, so that clients drop what it lacks.
pub fn migrate(config: &Config, restored: bool, layers: &Layers) -> Result<(), Failure> {
    let database = Database::read(config)?.migrating().with_log_schema(layers.log_schema);
    runtime()?.block_on(async {
        install_provider();
        let stores = database.open().await?;
        let newer = database.wait_until_ready(&stores).await?;
        if newer.is_empty() {
            print("the schema is up to date\n")?;
        }
        for newer in newer {
            print(&format!("{newer}\n"))?;
        }
        if restored {
            let incarnation =
                stores.conversations.reincarnate().await.map_err(|error| anyhow!("database_url: {error}"))?;
            print(&format!(
                "incarnation {incarnation} has begun: clients drop what they show and load it again\n"
            ))?;
        }
        Ok(())
    })
}
