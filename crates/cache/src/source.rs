use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where a cache's values come from.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// What is cached. In Redis it is MessagePack with the names of fields, so that a field may be added with a default.
    type Value: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Why a load failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Loads the newest committed value of a key.
    async fn load(&self, key: &str) -> Result<Loaded<Self::Value>, Self::Error>;

    /// Returns about how many bytes a value takes in memory.
    fn weight(&self, value: &Self::Value) -> u32;
}

/// What a load found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded<V> {
    /// A value.
    Found {
        /// The version, which rises with each change of the value.
        version: u64,
        /// The value.
        value: V,
    },
    /// There is nothing under this key.
    Absent,
}
