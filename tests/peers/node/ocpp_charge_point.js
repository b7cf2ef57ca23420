// A charge point made of ocpp-rpc in strict mode: one transaction, commanded by the central system at argv[2].
// Prints one JSON object with what it was answered and asked; any breach of a schema ends it with exit code 1.
'use strict';
const { RPCClient } = require('ocpp-rpc');

const asked = {};
const waiting = {};
const happens = (method) => new Promise((resolve) => { waiting[method] = resolve; });

async function main() {
  const breaches = [];
  const client = new RPCClient({
    endpoint: process.argv[2],
    identity: 'NODE-1',
    protocols: ['ocpp1.6'],
    strictMode: true,
    reconnect: false,
    callTimeoutMs: 5000,
    ...(process.argv[3] ? { password: process.argv[3] } : {}),
  });
  client.on('strictValidationFailure', ({ error }) => breaches.push(String(error)));
  for (const method of ['RemoteStartTransaction', 'SetChargingProfile', 'RemoteStopTransaction']) {
    client.handle(method, ({ params }) => {
      asked[method] = params;
      if (waiting[method]) waiting[method]();
      return { status: 'Accepted' };
    });
  }
  const starts = happens('RemoteStartTransaction');
  const profiled = happens('SetChargingProfile');
  const stops = happens('RemoteStopTransaction');
  await client.connect();
  const answers = {};
  const tell = async (method, params) => { answers[method] = await client.call(method, params); };
  await tell('BootNotification', { chargePointVendor: 'ocpp-rpc', chargePointModel: 'strict' });
  const status = (word) => tell('StatusNotification', { connectorId: 1, errorCode: 'NoError', status: word });
  await status('Preparing');
  await starts;
  await tell('Authorize', { idTag: asked.RemoteStartTransaction.idTag });
  const now = () => new Date().toISOString();
  await tell('StartTransaction', {
    connectorId: 1, idTag: asked.RemoteStartTransaction.idTag, meterStart: 100, timestamp: now(),
  });
  const { transactionId } = answers.StartTransaction;
  await status('Charging');
  await profiled;
  const sample = (measurand, value, unit) => ({ measurand, value, unit });
  await tell('MeterValues', {
    connectorId: 1,
    transactionId,
    meterValue: [{
      timestamp: now(),
      sampledValue: [
        sample('Power.Active.Export', '4.9', 'kW'),
        sample('Energy.Active.Export.Register', '12', 'Wh'),
      ],
    }],
  });
  await stops;
  await tell('StopTransaction', { transactionId, meterStop: 100, timestamp: now(), reason: 'Remote' });
  await tell('Heartbeat', {});
  const refusal = await client.call('DataTransfer', { vendorId: 'nobody' });
  await client.close();
  process.stdout.write(`${JSON.stringify({ answers, asked, refusal, breaches })}\n`);
  if (breaches.length) process.exit(1);
}

main().catch((error) => { console.error(error); process.exit(1); });
