//! A newcomer's call, at the board's endpoint for newcomers.

use super::{
    connect::{CALL_TIMEOUT, open},
    error::Error,
};
use crate::proto::v1::{EnrolRequest, EnrolResponse, enrol_service_client::EnrolServiceClient};
use stopover_config::Endpoint;
use stopover_pki::{Answer, Newcomer, SignError};
use thiserror::Error;
use tokio::time::timeout;
use tonic::Code;

/// Why a newcomer has no certificate.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The other end is not that of the token, or cannot be reached. The token was not sent.
    #[error(
        "{0}; the token was not sent; hint: see that this is the board's endpoint of `enrol`, and the token of its CA"
    )]
    NoBoard(Error),
    /// The board refused; the text has a hint.
    #[error("the board refused: {0}")]
    Refused(String),
    /// The token may be used up.
    #[error("{0}; hint: ask for a new token, for this one may be used up")]
    Lost(String),
    /// No key, or no request.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Asks for a certificate. The token is sent only to the board whose pin it has.
pub async fn enrol(endpoint: &Endpoint, newcomer: &Newcomer) -> Result<Answer, EnrolError> {
    let request = EnrolRequest {
        name: newcomer.token().name.to_string(),
        secret: newcomer.token().secret.bytes().to_vec(),
        certificate_request: newcomer.request()?,
    };
    let no_board = |why: String| EnrolError::NoBoard(Error::Unreachable(why));
    if !matches!(endpoint, Endpoint::Tls { .. }) {
        return Err(no_board(format!("found {endpoint}; expected the board's https:// endpoint of `enrol`")));
    }
    let config = newcomer.tls().map_err(|e| no_board(e.to_string()))?;
    let channel = open(endpoint, Some(move || config.clone())).await.map_err(EnrolError::NoBoard)?;
    let mut service = EnrolServiceClient::new(channel);
    match timeout(CALL_TIMEOUT, service.enrol(request)).await {
        Ok(Ok(answer)) => {
            let EnrolResponse { certificate, ca, crl } = answer.into_inner();
            Ok(Answer { certificate, ca, crl })
        }
        Ok(Err(status)) => Err(match status.code() {
            Code::Unauthenticated | Code::InvalidArgument | Code::ResourceExhausted | Code::Unavailable
                if std::error::Error::source(&status).is_none() =>
            {
                EnrolError::Refused(status.message().to_owned())
            }
            _ => EnrolError::Lost(format!("no answer: {}", status.message())),
        }),
        Err(_) => Err(EnrolError::Lost(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))),
    }
}
