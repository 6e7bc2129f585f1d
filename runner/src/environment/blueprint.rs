//! What an environment's sandbox is made of, and the programs in it.

use std::net::SocketAddr;

use super::variables::EnvVars;
use crate::sandbox::{PlanError, SandboxPlan, SandboxRequest, plan};

/// A sandbox and its programs, as often as they are wanted.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// The sandbox, with the runtime's command and streams. Its environment is made of the variables.
    pub request: SandboxRequest,
    /// The runtime's variables, all but the Runtime API's address.
    pub variables: EnvVars,
    /// The names of the external extensions: regular files in `/opt/extensions`.
    pub extensions: Vec<String>,
}

impl Blueprint {
    /// A sandbox in which the runtime is the only program, and starts with it.
    pub(super) fn alone(&self, runtime_api: SocketAddr) -> Result<SandboxPlan, PlanError> {
        let environment = self.runtime_variables(runtime_api).to_c_strings();
        plan(SandboxRequest { environment, ..self.request.clone() })
    }

    fn runtime_variables(&self, runtime_api: SocketAddr) -> EnvVars {
        let mut variables = self.variables.clone();
        variables.set("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string());
        variables
    }
}
