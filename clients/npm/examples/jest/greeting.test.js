const path = require('path')
const { serve } = require('undocked')

describe('greeting', () => {
  let lambda

  beforeAll(async () => {
    lambda = await serve({
      image: process.env.GREETING_IMAGE || 'nodejs20.x',
      handler: 'index.handler',
      taskDir: path.join(__dirname, 'src'),
      timeout: 3,
    })
  }, 120000)

  afterAll(() => lambda && lambda.close())

  test('greets', async () => {
    const answer = await lambda.invoke({ name: 'you' })
    expect(answer.greeting).toBe('hello you')
    expect(answer.left).toBeLessThanOrEqual(3000)
  })

  test('fails as on Lambda', async () => {
    await expect(lambda.invoke({})).rejects.toMatchObject({ name: 'TypeError', message: 'nobody to greet' })
  })

  test('logs', async () => {
    const { logTail } = await lambda.call({ name: 'me' })
    expect(logTail).toMatch(/greeting me/)
    expect(logTail).toMatch(/^REPORT RequestId: /m)
  })
})
