//! What an environment's sandbox is made of, and the programs in it.

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use super::variables::EnvVars;
use super::visit::Guest;
use crate::lambda;
use crate::sandbox::{Command, FirstProcess, Input, Output, PlanError, Program, SandboxPlan, SandboxRequest, Stdio, plan};

/// Where runtimes find the descriptor for framed logs on Lambda.
const LOG_DESCRIPTOR: RawFd = 62;
/// Where external extensions lie.
const EXTENSIONS: &str = "/opt/extensions";

/// Variables that extensions do not get, beside those that begin with an underscore (Lambda Extensions API, "environment variables").
const RUNTIMES_OWN: [&str; 7] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

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

    /// A sandbox in which programs are started one by one.
    pub(super) fn several(&self) -> Result<SandboxPlan, PlanError> {
        plan(SandboxRequest { first_process: FirstProcess::Several, ..self.request.clone() })
    }

    /// The runtime, with what it writes framed logs to, if there is anything.
    pub(super) fn runtime(&self, runtime_api: SocketAddr, logs: Option<OwnedFd>) -> Program {
        let mut variables = self.runtime_variables(runtime_api);
        if logs.is_some() {
            variables.set("_LAMBDA_TELEMETRY_LOG_FD", LOG_DESCRIPTOR.to_string());
        }
        let descriptors = logs.into_iter().map(|logs| (LOG_DESCRIPTOR, logs)).collect();
        Program { descriptors, ..self.program(self.request.command.clone(), &variables) }
    }

    /// An external extension.
    pub(super) fn extension(&self, name: &str, runtime_api: SocketAddr) -> Program {
        let mut variables = self.runtime_variables(runtime_api);
        variables.retain(|name| !name.starts_with('_') && !RUNTIMES_OWN.contains(&name));
        self.program(Command::FirstOf { candidates: vec![format!("{EXTENSIONS}/{name}")], arguments: Vec::new() }, &variables)
    }

    /// A visitor's command. Its variables are the function's, without the Runtime API's address: who asks there takes the runtime's place.
    pub(super) fn guest(&self, guest: &mut Guest) -> Program {
        let mut variables = self.variables.clone();
        for (name, value) in &guest.variables {
            variables.set(name, value);
        }
        let stdio = Stdio { input: Input::Null, output: Output::Pipe, error: Output::Pipe };
        let descriptors = (0..).zip(std::mem::take(&mut guest.streams)).collect();
        let program = self.program(Command::Line(guest.command.clone()), &variables);
        let working_dir = guest.working_dir.clone().unwrap_or(program.working_dir);
        Program { working_dir, stdio, descriptors, ..program }
    }

    fn program(&self, command: Command, variables: &EnvVars) -> Program {
        Program {
            command,
            environment: variables.to_c_strings(),
            working_dir: self.request.working_dir.clone(),
            stdio: self.request.stdio,
            descriptors: Vec::new(),
        }
    }

    fn runtime_variables(&self, runtime_api: SocketAddr) -> EnvVars {
        let mut variables = self.variables.clone();
        variables.set("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string());
        variables
    }
}

/// What an environment's program is called in the sandbox's terms: where it lies.
pub(super) fn path_of(program: &lambda::Program) -> Option<String> {
    match program {
        lambda::Program::Runtime => None,
        lambda::Program::Extension(name) => Some(format!("{EXTENSIONS}/{name}")),
    }
}
