//! Changes of an appliance's configuration while it runs: the file read again, and what every change prints.

use crate::{
    args::Change,
    output::{Failure, Output},
    render,
};
use stopover_ctl::{ChangeReport, Client};

/// `stopover reload`
pub async fn reload(client: &Client, change: Change, out: Output) -> Result<(), Failure> {
    report(&client.reload(change.into()).await?, out)
}

/// What has changed, or would change.
pub fn report(report: &ChangeReport, out: Output) -> Result<(), Failure> {
    out.print(report, render::changes)
}
