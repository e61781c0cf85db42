//! Refusals as gRPC statuses: the code, the reason word, and the sentence.

use super::engine::Unanswered;
use crate::{
    board::Refusal,
    model::Feature,
    proto::{REASON, parse::BadField},
    store::StoreError,
};
use tonic::{Code, Status, metadata::MetadataValue};

/// A status with its reason word.
pub(super) fn status(code: Code, word: &'static str, why: &str) -> Status {
    let mut status = Status::new(code, why);
    status.metadata_mut().insert(REASON, MetadataValue::from_static(word));
    status
}

/// The refusal of a caller that must not act without a feature.
pub(super) fn lacks_feature(caller: &str, missing: Feature) -> Status {
    let name = missing.name();
    let why = format!(
        "{caller} does not know `{name}`, without which it must not act by this board; hint: upgrade its program"
    );
    status(Code::FailedPrecondition, "upgrade", &why)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Conflict(_) | Refusal::Rows { .. } => Code::AlreadyExists,
            Refusal::NotFound(_) => Code::NotFound,
            Refusal::Unregistered(_) | Refusal::InUse(_) | Refusal::OtherBoard(_) => Code::FailedPrecondition,
            Refusal::Fenced(_) | Refusal::Stale(_) => Code::Aborted,
            Refusal::KeyReused => Code::InvalidArgument,
            Refusal::TooLarge(_) | Refusal::ReadOnly(_) | Refusal::Quota(_) => Code::ResourceExhausted,
        };
        status(code, refusal.word(), &refusal.to_string())
    }
}

impl From<BadField> for Status {
    fn from(bad: BadField) -> Self {
        Self::invalid_argument(bad.to_string())
    }
}

impl From<StoreError> for Status {
    fn from(e: StoreError) -> Self {
        Self::internal(e.to_string())
    }
}

impl From<Unanswered> for Status {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Stopped => Self::unavailable("the board is stopping"),
            Unanswered::Exceeded(exceeded) => Refusal::Quota(exceeded).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_feature_is_named_with_the_side_to_upgrade() {
        let status = lacks_feature("watcher hv-a", Feature::HostDetails);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.metadata().get(REASON).unwrap(), "upgrade");
        let expected = "watcher hv-a does not know `host-details`, without which it must not act by this board; hint: \
                        upgrade its program";
        assert_eq!(status.message(), expected);
    }
}
