//! Following one frame through the stages.

use serde::{Deserialize, Serialize};
use stopover_net::Mac;

/// Which frame to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// Ingress port of the frame.
    pub port: String,
    /// The frame itself, or which to wait for: key `frame_hex` or `capture`.
    #[serde(flatten)]
    pub source: TraceSource,
    /// How long to wait for a captured frame, milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// Waiting time when the request gives none.
fn default_timeout_ms() -> u64 {
    10_000
}

/// The source of the frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceSource {
    /// Given: hexadecimal digits from the destination MAC on, without FCS. It is walked through the stages
    /// on the present tables and nothing is sent.
    FrameHex(String),
    /// The next frame that passes the port and matches. It is forwarded as usual, and its path is reported.
    Capture(CaptureFilter),
}

/// What a captured frame must match; nothing given matches the next frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureFilter {
    /// Source MAC; on an underlay port the inner frame's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_mac: Option<Mac>,
    /// Destination MAC; on an underlay port the inner frame's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst_mac: Option<Mac>,
}

/// What happened to the frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReport {
    /// Ingress port.
    pub port: String,
    /// The frame was captured, not given.
    pub captured: bool,
    /// The frame in words: addresses, types, lengths.
    pub summary: String,
    /// The frame as received, hexadecimal; long ones are cut.
    pub frame_hex: String,
    /// The stages in order.
    pub steps: Vec<TraceStep>,
    /// The end of it in one sentence.
    pub outcome: String,
}

/// What one stage did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// Stage: guard, resolve, lookup, encap, …
    pub stage: String,
    /// Its verdict.
    pub verdict: String,
    /// Why, with the table entries that decided.
    pub why: String,
    /// The frame in words after this stage, when the stage changed or made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The frame after this stage, hexadecimal, when the stage changed or made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_hex: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_documented() {
        let given: TraceRequest = serde_json::from_str(r#"{"port":"vm1","frame_hex":"ffff"}"#).unwrap();
        assert_eq!(given.source, TraceSource::FrameHex("ffff".into()));
        assert_eq!(given.timeout_ms, 10_000);
        let capture = r#"{"port":"vm1","capture":{"dst_mac":"02:00:00:00:00:01"},"timeout_ms":5}"#;
        let request: TraceRequest = serde_json::from_str(capture).unwrap();
        assert_eq!(
            request.source,
            TraceSource::Capture(CaptureFilter {
                src_mac: None,
                dst_mac: Some(Mac::new([2, 0, 0, 0, 0, 1]))
            })
        );
        assert_eq!(serde_json::to_string(&request).unwrap(), capture);
        assert!(serde_json::from_str::<TraceRequest>(r#"{"port":"vm1"}"#).is_err());
        assert!(serde_json::from_str::<TraceRequest>(r#"{"port":"vm1","capture":{"smac":"x"}}"#).is_err());
    }
}
