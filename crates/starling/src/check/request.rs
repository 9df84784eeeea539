//! What is to be checked.

use std::path::PathBuf;

/// What is to be checked.
pub struct CheckRequest {
    /// Where the nodes are. `None`: where the node of this configuration listens.
    pub url: Option<String>,
    /// A token to connect with.
    pub token: Option<String>,
    /// A file that holds one. With neither, the secret of the configuration signs one.
    pub token_file: Option<PathBuf>,
    /// The tenant of a token that is signed here.
    pub tenant: String,
}
