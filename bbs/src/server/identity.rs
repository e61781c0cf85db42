//! The identity of callers. A transport that proves the name of its peer (mutual TLS) puts [`Proven`] into the extensions of
//! the request. A plain connection proves nothing, and may act for any host.

use stopover_net::HostName;
use tonic::{Extensions, Status};

/// The host name that the connection has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven(pub HostName);

/// Refuses a caller with the proven name of another host.
pub fn authorize_host(extensions: &Extensions, host: &HostName) -> Result<(), Status> {
    match extensions.get::<Proven>() {
        Some(Proven(name)) if name != host => {
            let why = format!("the connection is that of host {name}, which may not act for {host}");
            Err(super::refuse::status(tonic::Code::PermissionDenied, "forbidden", &why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proven_name_authorizes_only_its_host() {
        let (a, b) = (HostName::new("a").unwrap(), HostName::new("b").unwrap());
        let mut extensions = Extensions::new();
        assert!(authorize_host(&extensions, &a).is_ok(), "nothing proven on a plain connection");
        extensions.insert(Proven(a.clone()));
        assert!(authorize_host(&extensions, &a).is_ok());
        let status = authorize_host(&extensions, &b).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
    }
}
