//! Single execution: the runtime is started at once, gets its one event when it asks for it, and nothing is left afterwards.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::blueprint::Blueprint;
use super::connections::{ApiPort, Connections, PublishError};
use super::handle::{Answer, Work};
use super::ids;
use super::task::{Environment, Keeping, Start};
use super::visit::{Visit, Visits};
use crate::api::{Call, Metadata};
use crate::function::{Function, INNER_API_PORT};
use crate::lambda::{Invocation, Outcome, ReportFigures};
use crate::report::Report;
use crate::sandbox::network::Networking;
use crate::sandbox::{LaunchError, Launcher, PlanError};

/// Calls that wait for the environment's task. Bounded: a connection that is ahead of it waits.
const CALLS_AHEAD: usize = 16;

/// What is run.
#[derive(Debug)]
pub struct Run<'a> {
    /// The function.
    pub function: &'a Function,
    /// Its one event.
    pub event: Bytes,
    /// How its sandbox is connected.
    pub networking: Rc<Networking>,
    /// Where the program looks for the Runtime API.
    pub api_port: ApiPort,
    /// Where visits come, if somebody may come.
    pub visits: Option<mpsc::UnboundedReceiver<Visit>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// The figures of its REPORT line; none if it was interrupted before.
    pub figures: Option<ReportFigures>,
}

/// Why a run could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// There is no socket for the Runtime API.
    #[error("cannot serve the Runtime API on 127.0.0.1")]
    Listen {
        /// What the kernel said.
        source: io::Error,
    },
    /// The one port for the Runtime API that will do is taken.
    #[error("cannot serve the Runtime API on 127.0.0.1:{INNER_API_PORT}, the one port where this image's runtime looks for it")]
    PortTaken {
        /// What the kernel said.
        source: io::Error,
    },
    /// A port cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The sandbox runs and cannot be connected.
    #[error("cannot connect the sandbox")]
    Connect {
        /// What the kernel said.
        source: io::Error,
    },
    /// The sandbox that was asked for cannot be.
    #[error("cannot plan the sandbox")]
    Plan {
        /// Why.
        source: PlanError,
    },
    /// The sandbox could not be started.
    #[error("cannot start the runtime")]
    Launch {
        /// Why.
        source: LaunchError,
    },
    /// The sandbox could not be waited for.
    #[error("cannot watch the sandbox")]
    Watch {
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no randomness for ids.
    #[error("cannot get random bytes for a request id")]
    Random {
        /// What the kernel said.
        source: getrandom::Error,
    },
}

impl EnvironmentError {
    /// Whether the host's network may do where the one that was asked for cannot be had.
    pub fn is_of_network(&self) -> bool {
        matches!(self, Self::Launch { source: LaunchError::NoNetwork { .. } } | Self::Plan { source: PlanError::NoNetwork { .. } })
    }

    /// What the user can do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Launch { source } => source.hint(),
            Self::Publish(error) => Some(error.hint()),
            Self::Plan { source } => source.hint(),
            Self::PortTaken { .. } => {
                Some("on a network of their own (without `--network host`) any number of them run at once".to_owned())
            }
            _ => None,
        }
    }
}

/// Runs a function once. A slow initialisation can make a second start of the runtime.
/// `stop` gives the number of a signal that ends the run. When this returns, the sandbox is gone and the log is written, if anybody reads it.
pub async fn run_once(
    launcher: &Launcher,
    blueprint: Blueprint,
    run: Run<'_>,
    report: &mut Report,
    stop: impl Future<Output = i32>,
) -> Result<Ran, EnvironmentError> {
    let connections = Connections::open(Rc::clone(&run.networking))?.with_api_port(run.api_port);
    for (outside, inside) in connections.published() {
        report.note(&format!("undocked: {outside} leads to port {inside} inside"));
    }
    let invocation = invocation(run.function, run.event.clone()).map_err(|source| EnvironmentError::Random { source })?;
    let (start, received) = start(launcher, blueprint, connections, Keeping::Once)?;
    let start = Start { visits: run.visits.map(Visits::Direct).unwrap_or_default(), ..start };
    let (answer, mut answered) = oneshot::channel();
    let (finished, mut end) = oneshot::channel();
    let mut environment = Environment::new(start, Arc::new(run.function.clone()), report);
    environment.begin(Some(Box::new(Work { invocation, answer, finished })))?;
    let interrupted = environment.serve(received, None, stop).await?;
    environment.clear_away().await?;
    environment.close(None);
    report.flush().await;
    let outcome = match (interrupted, answered.try_recv()) {
        (Some(signal), _) => Outcome::Interrupted { signal },
        (None, Ok(Ok(Answer::Success { payload }))) => Outcome::Success { payload },
        (None, Ok(Ok(Answer::Failed(error)))) => Outcome::FunctionError(error),
        (None, _) => unreachable!("the lifecycle decides on a result before it finishes"),
    };
    Ok(Ran { outcome, figures: end.try_recv().ok().map(|finished| finished.figures) })
}

/// What every start of a runtime needs, and where its calls come.
pub(super) fn start(
    launcher: &Launcher,
    mut blueprint: Blueprint,
    connections: Connections,
    keeping: Keeping,
) -> Result<(Start, mpsc::Receiver<Call>), EnvironmentError> {
    let (outside, runtime_api) = connections.outside()?;
    let (calls, received) = mpsc::channel(CALLS_AHEAD);
    let random = |source| EnvironmentError::Random { source };
    let seed = ids::seed().map_err(random)?;
    let metadata = Arc::new(Metadata {
        token: ids::token().map_err(random)?,
        availability_zone_id: zone(&blueprint.variables.get("AWS_REGION").unwrap_or_default().to_string_lossy()),
    });
    blueprint.variables.set("AWS_LAMBDA_METADATA_API", runtime_api.to_string());
    blueprint.variables.set("AWS_LAMBDA_METADATA_TOKEN", &metadata.token);
    let launcher = launcher.clone();
    let (metadata, visits) = (Some(metadata), Visits::None);
    let start = Start { launcher, blueprint, runtime_api, connections, outside, calls, metadata, seed, keeping, visits };
    Ok((start, received))
}

/// The id of a region's first availability zone: `us-east-1` has `use1-az1`, `ap-southeast-2` has `apse2-az1`.
fn zone(region: &str) -> String {
    let short = |word: &str| match word {
        "northeast" => "ne".to_owned(),
        "northwest" => "nw".to_owned(),
        "southeast" => "se".to_owned(),
        "southwest" => "sw".to_owned(),
        "north" | "south" | "east" | "west" | "central" => word[..1].to_owned(),
        other => other.to_owned(),
    };
    format!("{}-az1", region.split('-').map(short).collect::<String>())
}

/// An invocation of a function with an event of its own.
pub fn invocation(function: &Function, event: Bytes) -> Result<Invocation, getrandom::Error> {
    Ok(Invocation {
        request_id: ids::request_id()?,
        event,
        content_type: None,
        invoked_function_arn: function.arn.clone(),
        trace_id: function.trace_id.clone().map_or_else(ids::trace_id, Ok)?,
        client_context: function.client_context.clone(),
        cognito_identity: function.cognito_identity.clone(),
        tenant_id: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        for (region, expected) in [
            ("us-east-1", "use1-az1"),
            ("eu-west-1", "euw1-az1"),
            ("ap-southeast-2", "apse2-az1"),
            ("eu-central-1", "euc1-az1"),
            ("", "-az1"),
        ] {
            assert_eq!(zone(region), expected);
        }
    }
}
