/// What a URL's `sslmode` demands of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// No TLS.
    Plain,
    /// TLS with any certificate: the connection is encrypted, but the server is not verified.
    AnyCertificate,
    /// TLS with a certificate by a known authority, for any name.
    Authority,
    /// TLS with a certificate by a known authority, for the host's name.
    AuthorityAndName,
}
