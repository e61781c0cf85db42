//! Who calls. A transport that proves its peer's name (mutual TLS) puts [`Proven`] into the request's extensions;
//! a plain connection proves nothing, and may speak for any host.

use stopover_net::HostName;
use tonic::{Extensions, Status};

/// The name a connection has proven to own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven(pub HostName);

/// A host may write only what belongs to it.
pub fn authorize_host(extensions: &Extensions, host: &HostName) -> Result<(), Status> {
    match extensions.get::<Proven>() {
        Some(Proven(name)) if name != host => {
            let why = format!("the connection is that of host {name}, which may not speak for {host}");
            Err(super::refuse::status(tonic::Code::PermissionDenied, "forbidden", &why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proven_name_speaks_only_for_itself() {
        let (a, b) = (HostName::new("a").unwrap(), HostName::new("b").unwrap());
        let mut extensions = Extensions::new();
        assert!(authorize_host(&extensions, &a).is_ok(), "nothing proven on a plain connection");
        extensions.insert(Proven(a.clone()));
        assert!(authorize_host(&extensions, &a).is_ok());
        let status = authorize_host(&extensions, &b).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
    }
}
