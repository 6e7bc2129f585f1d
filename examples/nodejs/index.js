exports.handler = async (event, context) => {
  console.log('handling', context.awsRequestId)
  return {
    message: `Hello from Node ${process.version}`,
    event,
    function: context.functionName,
    cwd: process.cwd(),
    remainingMs: context.getRemainingTimeInMillis(),
  }
}
