// npm's modbus-serial as a controller of the charger twin: reads the map, commands 3 kW out of the vehicle, asks for
// what is not there, and prints what it saw as one line of JSON.
"use strict";

const ModbusRTU = require("modbus-serial");

const WSET_ENA = 40317;
const WSET = 40319;
const CONTROLLER_HB = 40075;

async function refusal(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return error.modbusCode ?? error.message;
  }
}

async function main(port) {
  const client = new ModbusRTU();
  await client.connectTCP("127.0.0.1", { port });
  client.setID(1);
  client.setTimeout(5000);
  const seen = {};
  seen.marker = (await client.readHoldingRegisters(40000, 2)).buffer.toString("latin1");
  const cycle = (await client.readHoldingRegisters(40070, 59)).buffer;
  seen.watts = cycle.readInt16BE(2 * 28);
  seen.state = cycle.readUInt16BE(2 * 22);
  await client.writeRegisters(CONTROLLER_HB, [0, 7]);
  await client.writeRegister(WSET_ENA, 1);
  await client.writeRegisters(WSET, [0, 3000]);
  seen.setpoint = (await client.readHoldingRegisters(WSET, 2)).buffer.readInt32BE(0);
  seen.heartbeat = (await client.readHoldingRegisters(CONTROLLER_HB, 2)).buffer.readUInt32BE(0);
  seen.half = await refusal(() => client.writeRegister(WSET, 0));
  seen.beyond = await refusal(() => client.writeRegisters(WSET, [0, 10001]));
  seen.coil = await refusal(() => client.readCoils(0, 1));
  seen.outside = await refusal(() => client.readHoldingRegisters(0, 1));
  client.setID(9);
  seen.unit = await refusal(() => client.readHoldingRegisters(40000, 2));
  await new Promise((resolve) => client.close(resolve));
  process.stdout.write(JSON.stringify(seen) + "\n");
}

main(Number(process.argv[2])).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
