// A central system made of ocpp-rpc's server in strict mode. Prints its port, then drives one discharging transaction
// with whatever charge point comes, and prints one JSON object with all that it was told. Ends when stdin does.
'use strict';
const { RPCServer } = require('ocpp-rpc');

const now = () => new Date().toISOString();
const answers = {
  BootNotification: () => ({ status: 'Accepted', interval: 300, currentTime: now() }),
  Heartbeat: () => ({ currentTime: now() }),
  Authorize: () => ({ idTagInfo: { status: 'Accepted' } }),
  StartTransaction: () => ({ transactionId: 77, idTagInfo: { status: 'Accepted' } }),
  StopTransaction: () => ({}),
  StatusNotification: () => ({}),
  MeterValues: () => ({}),
};

async function main() {
  const server = new RPCServer({ protocols: ['ocpp1.6'], strictMode: true, pingIntervalMs: 1000 });
  const told = [];
  const breaches = [];
  const commands = {};
  server.auth((accept) => accept());
  server.on('client', (client) => {
    client.on('strictValidationFailure', ({ error }) => breaches.push(String(error)));
    const command = async (method, params) => { commands[method] = await client.call(method, params); };
    const react = async (method, params) => {
      if (method === 'StatusNotification' && params.status === 'Preparing') {
        await command('GetConfiguration', {});
        await command('ChangeConfiguration', { key: 'MeterValueSampleInterval', value: '10' });
        await command('RemoteStartTransaction', { idTag: 'STRANGER', connectorId: 1 });
      } else if (method === 'StatusNotification' && params.status === 'SuspendedEVSE' && !commands.SetChargingProfile) {
        commands.SetChargingProfile = 'sent';
        await command('SetChargingProfile', {
          connectorId: 1,
          csChargingProfiles: {
            chargingProfileId: 1,
            transactionId: 77,
            stackLevel: 0,
            chargingProfilePurpose: 'TxProfile',
            chargingProfileKind: 'Relative',
            chargingSchedule: {
              chargingRateUnit: 'W', chargingSchedulePeriod: [{ startPeriod: 0, limit: -3000.5 }],
            },
          },
        });
        await command('GetCompositeSchedule', { connectorId: 1, duration: 60, chargingRateUnit: 'W' });
      } else if (method === 'MeterValues' && told.filter((call) => call.method === 'MeterValues').length === 2) {
        await command('RemoteStopTransaction', { transactionId: 77 });
      } else if (method === 'StopTransaction') {
        process.stdout.write(`${JSON.stringify({ told, commands, breaches })}\n`);
      }
    };
    client.handle(({ method, params }) => {
      told.push({ method, params });
      setImmediate(() => react(method, params).catch((error) => breaches.push(String(error))));
      return answers[method](params);
    });
  });
  const http = await server.listen(0, '127.0.0.1');
  process.stdout.write(`${http.address().port}\n`);
  process.stdin.on('end', () => process.exit(breaches.length ? 1 : 0));
  process.stdin.resume();
}

main().catch((error) => { console.error(error); process.exit(1); });
