/// What the server has to show before it is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// No TLS.
    Plain,
    /// TLS with any certificate: nobody can listen, but who answers is not known.
    AnyCertificate,
    /// A certificate by a known authority, for whatever name.
    Authority,
    /// A certificate by a known authority, for the host's name.
    AuthorityAndName,
}
