exports.handler = async (event, context) => {
  console.log('greeting', event.name)
  if (!event.name) throw new TypeError('nobody to greet')
  return { greeting: `hello ${event.name}`, left: context.getRemainingTimeInMillis() }
}
