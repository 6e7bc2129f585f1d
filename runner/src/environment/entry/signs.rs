//! By what an image's entrypoint shows that it is a function's, or starts one.

/// Names of programs: AWS's own images, its emulator, its runtime clients for Node.js and Ruby, custom runtimes.
const PROGRAMS: [&str; 5] = ["lambda-entrypoint.sh", "aws-lambda-rie", "aws-lambda-ric", "aws_lambda_ric", "bootstrap"];

/// Runtime clients that are modules or classes: Python's, Java's, .NET's, and Node.js's by its path.
const MODULES: [&str; 4] =
    ["awslambdaric", "com.amazonaws.services.lambda.runtime.api.client", "Amazon.Lambda.RuntimeSupport", "aws-lambda-ric"];

/// What AWS's images say of themselves, and what is built upon them inherits: the way an entrypoint of one's own is found there.
const VARIABLES: [&str; 2] = ["LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"];

/// Whether one is there, in the entrypoint or in the image's variables.
pub(super) fn of_a_function(entrypoint: &[String], variables: &[(String, String)]) -> bool {
    let names = |word: &String| {
        PROGRAMS.contains(&word.rsplit('/').next().unwrap_or_default()) || MODULES.iter().any(|module| word.contains(module))
    };
    entrypoint.iter().any(names) || variables.iter().any(|(name, _)| VARIABLES.contains(&name.as_str()))
}
