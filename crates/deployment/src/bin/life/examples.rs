//! The chart's example values, offered to the API server.

use anyhow::{Context, Result, ensure};
use starling_deployment::repository;

use crate::cluster::Cluster;

/// The folder with the examples.
const EXAMPLES: &str = "helm/starling/ci";

/// Lets the API server check what Helm would install with each example. One whose kinds the cluster does not know is left out.
pub async fn run(cluster: &Cluster) -> Result<String> {
    let (mut accepted, mut unknown) = (Vec::new(), Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(repository(EXAMPLES))?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let path = format!("{EXAMPLES}/{name}");
        let arguments = [
            "install",
            "example",
            "helm/starling",
            "-n",
            &cluster.namespace,
            "-f",
            &path,
            "--dry-run=server",
        ];
        match cluster.helm.run(&arguments).await {
            Ok(_) => accepted.push(name),
            Err(error) if format!("{error:#}").contains("no matches for kind") => unknown.push(name),
            Err(error) => return Err(error).context(path),
        }
    }
    ensure!(!accepted.is_empty(), "no example in {EXAMPLES}");
    let mut note = format!("the API server accepts {}", accepted.join(", "));
    if !unknown.is_empty() {
        note += &format!("; left out, since the cluster lacks their kinds: {}", unknown.join(", "));
    }
    Ok(note)
}
