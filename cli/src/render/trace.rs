//! The path of one frame.

use std::fmt::Write as _;
use stopover_ctl::TraceReport;

/// `trace`
pub fn trace(r: &TraceReport) -> String {
    let how = if r.captured { "captured on" } else { "given to" };
    // Writing to a String cannot fail.
    let mut s = format!("frame {how} port {}: {}\n", r.port, r.summary);
    let width = r.steps.iter().map(|step| step.stage.chars().count()).max().unwrap_or(0);
    for (i, step) in r.steps.iter().enumerate() {
        let _ = writeln!(s, "{:>3}. {:<width$}  {}: {}", i + 1, step.stage, step.verdict, step.why);
        if let Some(summary) = &step.summary {
            let _ = writeln!(s, "     {:<width$}  = {summary}", "");
        }
    }
    let _ = writeln!(s, "outcome: {}", r.outcome);
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_ctl::TraceStep;

    #[test]
    fn stages_in_order() {
        let step = |stage: &str, verdict: &str, why: &str, summary: Option<&str>| TraceStep {
            stage: stage.into(),
            verdict: verdict.into(),
            why: why.into(),
            summary: summary.map(Into::into),
            frame_hex: None,
        };
        let report = TraceReport {
            port: "vm1".into(),
            captured: false,
            summary: "02:..:01 > 02:..:02 IPv4 98 bytes".into(),
            frame_hex: "02".into(),
            steps: vec![
                step("guard", "pass", "source is the port's", None),
                step("encap", "remote", "node is on hv-b", Some("10.0.0.1 > 10.0.0.2 VXLAN 100, 148 bytes")),
            ],
            outcome: "sent by ul0".into(),
        };
        assert_eq!(
            trace(&report),
            "\
frame given to port vm1: 02:..:01 > 02:..:02 IPv4 98 bytes
  1. guard  pass: source is the port's
  2. encap  remote: node is on hv-b
            = 10.0.0.1 > 10.0.0.2 VXLAN 100, 148 bytes
outcome: sent by ul0
"
        );
    }
}
