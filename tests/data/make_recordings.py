"""Write the small recordings of `tests/data/recordings`: every dialect, from a made-up vehicle.

    python tests/data/make_recordings.py [FOLDER]

No byte here comes from a real vehicle. The encoder is this file's own (bits set one by one, CRC and checksum computed
bit by bit), so that it and the project's decoder cannot be wrong together. Output is the same at every run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "recordings"
START_UTC_S = 1_704_067_200  # 2024-01-01T00:00:00Z


class Frame(NamedTuple):
    """Milliseconds since the start, identifier, data, channel."""

    time_ms: int
    can_id: int
    data: bytes
    channel: int = 1


def put(data: bytearray, byte: int, bit: int, length: int, value: int) -> None:
    """Write `value` with its most significant bit at `byte`, `bit` (7 is the top), going down and on."""
    for position in range(length):
        here = byte * 8 + (7 - bit) + position
        if value >> (length - 1 - position) & 1:
            data[here // 8] |= 0x80 >> here % 8


def with_crc(data: bytearray) -> bytes:
    """Set the last byte to the CRC-8 (0x85) of the others, bit by bit."""
    remainder = 0
    for byte in data[:-1]:
        for bit in range(7, -1, -1):
            top = (remainder >> 7) ^ (byte >> bit & 1)
            remainder = remainder << 1 & 0xFF
            if top:
                remainder ^= 0x85
    data[-1] = remainder
    return bytes(data)


def with_nibbles(can_id: int, data: bytearray) -> bytes:
    """Set the low half of the last byte to the sum of all hexadecimal digits but itself."""
    digits = f"{can_id:03x}" + bytes(data).hex()[:-1]
    data[-1] |= sum(int(digit, 16) for digit in digits) % 16
    return bytes(data)


def battery(count: int, *, volts: float | None, amps: float, dash: int) -> bytes:
    """0x1DB; no volts: not available."""
    data = bytearray(8)
    put(data, 0, 7, 11, int(amps * 2) & 0x7FF if volts is not None else 0x3FF)
    put(data, 2, 7, 10, 0x3FF if volts is None else int(volts * 2))
    put(data, 4, 6, 7, 0x7F if volts is None else dash)
    put(data, 6, 1, 2, count % 4)
    return with_crc(data)


def limits(count: int, *, discharge_kw: float, charge_kw: float) -> bytes:
    """0x1DC."""
    data = bytearray(8)
    put(data, 0, 7, 10, int(discharge_kw * 4))
    put(data, 1, 5, 10, int(charge_kw * 4))
    put(data, 6, 1, 2, count % 4)
    return with_crc(data)


def soc(count: int, percent: float) -> bytes:
    """0x55B."""
    data = bytearray(8)
    put(data, 0, 7, 10, round(percent * 10))
    data[2] = 0x55 if count % 2 else 0xAA
    put(data, 4, 7, 10, 880)
    put(data, 6, 1, 2, count % 4)
    return with_crc(data)


def capacity(*, gids: int, soh: int, maximum: bool) -> bytes:
    """0x5BC."""
    data = bytearray(8)
    put(data, 0, 7, 10, 500 if maximum else gids)
    put(data, 4, 7, 7, soh)
    put(data, 5, 4, 1, int(maximum))
    put(data, 6, 4, 13, 0x1FFF)
    return bytes(data)


def temperature(kind: int, celsius: int) -> bytes:
    """0x5C0: kind 1 greatest, 2 average, 3 least."""
    data = bytearray(8)
    put(data, 0, 7, 2, kind)
    put(data, 2, 7, 7, celsius + 40)
    return bytes(data)


def onboard(count: int, *, watts: int, status: int, volts_class: int) -> bytes:
    """0x390."""
    data = bytearray(8)
    put(data, 0, 0, 9, watts // 100)
    put(data, 3, 4, 2, volts_class)
    put(data, 5, 6, 6, status)
    put(data, 7, 5, 2, count % 4)
    return with_nibbles(0x390, data)


def gear_ev(count: int) -> bytes:
    """0x11A in Park."""
    data = bytearray(8)
    put(data, 0, 7, 4, 1)
    put(data, 6, 1, 2, count % 4)
    return with_crc(data)


def ambient(celsius: float) -> bytes:
    """0x54C."""
    data = bytearray(8)
    data[6] = int((celsius + 40) * 2)
    return bytes(data)


def energy(full_wh: int, remaining_wh: int) -> bytes:
    """0x59E."""
    data = bytearray(8)
    put(data, 2, 4, 9, full_wh // 100)
    put(data, 3, 3, 9, remaining_wh // 100)
    return bytes(data)


def slow_battery(time_ms: int, channel: int, *, percent: float, soh: int, gids: int) -> Iterator[Frame]:
    """What EV-CAN and CAR-CAN both carry."""
    if time_ms % 100 == 0:
        count = time_ms // 100
        yield Frame(time_ms, 0x55B, soc(count, percent), channel)
        yield Frame(time_ms, 0x5BC, capacity(gids=gids, soh=soh, maximum=count % 2 == 1), channel)
    if time_ms % 500 == 0:
        kind = time_ms // 500 % 3 + 1
        yield Frame(time_ms, 0x5C0, temperature(kind, {1: 24, 2: 22, 3: 21}[kind]), channel)
        yield Frame(time_ms, 0x59E, energy(38_000, 23_100), channel)


def ev_can(seconds: float, *, wake_ms: int, amps: float, charging: bool, channel: int = 1) -> Iterator[Frame]:
    """A made-up EV-CAN: 61.3 %, SOH 96 %, 366.5 V; pack values not available for the first `wake_ms`."""
    for time_ms in range(0, int(seconds * 1000), 10):
        count = time_ms // 10
        volts = None if time_ms < wake_ms else 366.5
        yield Frame(time_ms, 0x1DB, battery(count, volts=volts, amps=amps, dash=57), channel)
        if time_ms % 50 == 0:
            yield Frame(time_ms, 0x1DC, limits(count // 5, discharge_kw=110, charge_kw=45.5), channel)
            yield Frame(time_ms, 0x11A, gear_ev(count // 5), channel)
            yield Frame(time_ms, 0x7F1, bytes(2), channel)
        if time_ms % 100 == 0:
            watts, status, volts_class = (2100, 4, 2) if charging else (0, 1, 0)
            yield Frame(
                time_ms,
                0x390,
                onboard(count // 10, watts=watts, status=status, volts_class=volts_class),
                channel,
            )
            yield Frame(time_ms, 0x54C, ambient(18.5), channel)
        yield from slow_battery(time_ms, channel, percent=61.3, soh=96, gids=288)


def car_can(
    seconds: float, channel: int = 1, *, percent: float = 44.7, soh: int = 88, gids: int = 210
) -> Iterator[Frame]:
    """A made-up CAR-CAN: 91 234 km, standing in Park."""
    for time_ms in range(0, int(seconds * 1000), 20):
        yield Frame(time_ms, 0x174, bytes.fromhex("000000aa08000000"), channel)
        if time_ms % 60 == 0:
            yield Frame(time_ms, 0x421, bytes((1 << 3, 0, 0)), channel)
        if time_ms % 40 == 0:
            yield Frame(time_ms, 0x355, bytes.fromhex("0000000000004000"), channel)
        if time_ms % 100 == 0:
            yield Frame(time_ms, 0x5B3, bytes((0x50, soh << 1, 0, 0, 0, 0, 0, 0)), channel)
            yield Frame(time_ms, 0x5C5, bytes((0x40, *(91_234).to_bytes(3, "big"), 0, 0, 0, 0)), channel)
            yield Frame(time_ms, 0x60D, bytes(8), channel)
        yield from slow_battery(time_ms, channel, percent=percent, soh=soh, gids=gids)


def group_4(time_ms: int, channel: int) -> Iterator[Frame]:
    """An answer to 21 04: sensors at 23, 22, none, 24 degC, average 23; 37 bytes."""
    sensors = bytes.fromhex("01e7 17 01f1 16 ffff ff 01dd 18".replace(" ", ""))
    message = bytes((0x61, 0x04)) + sensors + bytes((23,)) + b"\xff" * (37 - 2 - len(sensors) - 1)
    yield Frame(time_ms, 0x7BB, bytes((0x10 | len(message) >> 8, len(message) & 0xFF)) + message[:6], channel)
    for number, begin in enumerate(range(6, len(message), 7), start=1):
        part = message[begin : begin + 7].ljust(7, b"\xff")
        yield Frame(time_ms + 10 * number, 0x7BB, bytes((0x20 | number,)) + part, channel)


def chademo(seconds: float, *, discharge: bool) -> Iterator[Frame]:
    """Handshake 1 s, precharge 1 s, then current until a second before the end, then stop."""
    for time_ms in range(0, int(seconds * 1000), 100):
        into = time_ms - 2000
        flowing = 0 <= into < seconds * 1000 - 3000
        stopped = into >= seconds * 1000 - 3000
        enabled = time_ms >= 1000 and not stopped
        amps = min(20, into // 50) if flowing else 0
        volts = 0 if time_ms < 1500 else 372 + into // 1000 if flowing else 371
        request = 0 if discharge or not flowing else 20
        vehicle_flags = (1 if enabled else 0) | (0 if enabled else 8) | 0x80
        charger_flags = (1 if flowing else 0) | (4 if time_ms >= 1000 else 0) | (0 if flowing or enabled else 0x20)
        rate = 60 if flowing and into >= 1000 else 59
        charge, out = (0, amps) if discharge else (amps, 0)
        yield Frame(time_ms, 0x100, bytes((0, 0, 0, 0, *(435).to_bytes(2, "little"), 100, 0)))
        yield Frame(time_ms, 0x102, bytes((2, *(410).to_bytes(2, "little"), request, 0, vehicle_flags, rate, 0)))
        yield Frame(
            time_ms + 5, 0x108, bytes((0, *(500).to_bytes(2, "little"), 25, *(440).to_bytes(2, "little"), 0, 0))
        )
        yield Frame(time_ms + 5, 0x109, bytes((2, *volts.to_bytes(2, "little"), charge, 1, charger_flags, 0xFF, 40)))
        yield Frame(time_ms + 10, 0x200, bytes((255 - 25, 0, 0, 0, *(250).to_bytes(2, "little"), 0, 0)))
        yield Frame(time_ms + 10, 0x208, bytes((255 - out, 0, 0, 0, 0, 0, 0, 0)))


def tsv(frames: Iterator[Frame]) -> str:
    """Tab-separated, 1 ms ticks."""
    lines = ["ParserFlags\tCh\tCounter\tT/R\tTime\tFlags\tCAN ID\tLen\tData\tParser Name\tdefault"]
    for number, frame in enumerate(frames, start=1):
        data = frame.data.hex(" ")
        lines.append(
            f"1\t0\t{number}\tRX\t{frame.time_ms + 700_000}\t\t0x{frame.can_id:08x}\t{len(frame.data)}\t0x{data} \tP\t"
        )
    return "\n".join(lines) + "\n"


def crtd(frames: Iterator[Frame]) -> str:
    """OVMS CRTD 3.0 with a comment, an event and a question of the logger's own."""
    lines = [f"{START_UTC_S}.000000 CXX made up", f"{START_UTC_S}.000000 CVR 3.0"]
    for number, frame in enumerate(frames):
        if number == 100:
            lines.append(f"{stamp(frame.time_ms)} 1CEV Event vehicle.awake")
            lines.append(f"{stamp(frame.time_ms)} 1T11 79B 02 21 04 55 55 55 55 55")
        lines.append(f"{stamp(frame.time_ms)} {frame.channel}R11 {frame.can_id:03X} {frame.data.hex(' ')}")
    return "\n".join(lines) + "\n"


def stamp(time_ms: int) -> str:
    """Epoch seconds with six digits."""
    return f"{START_UTC_S + time_ms // 1000}.{time_ms % 1000:03d}000"


def seconds_text(frames: Iterator[Frame]) -> str:
    """`seconds ID len bytes`, upper case, CRLF, blanks where short frames end."""
    lines = [
        f"{frame.time_ms / 1000:011.6f} {frame.can_id:08X} {len(frame.data)} {frame.data.hex(' ').upper()} "
        for frame in frames
    ]
    return "\r\n".join(lines) + "\r\n"


def savvycan(frames: Iterator[Frame]) -> str:
    """SavvyCAN with negative microseconds that rise, CRLF, a comma after the last byte."""
    lines = ["Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8"]
    for frame in frames:
        cells = frame.data.hex(",").upper()
        lines.append(f"{-9_000_000_000 + frame.time_ms * 1000},{frame.can_id:08X},false,Rx,0,8,{cells},")
    return "\r\n".join(lines) + "\r\n"


def candump_log(frames: Iterator[Frame]) -> str:
    """`candump -L`."""
    return "".join(f"({stamp(frame.time_ms)}) can0 {frame.can_id:03X}#{frame.data.hex().upper()}\n" for frame in frames)


def candump(frames: Iterator[Frame]) -> str:
    """`candump -ta`."""
    return "".join(
        f" ({stamp(frame.time_ms)})  can0  {frame.can_id:03X}   [{len(frame.data)}]  {frame.data.hex(' ').upper()}\n"
        for frame in frames
    )


OLD_COLUMNS = (
    "Date/Time,Lat,Long,Elv,Speed,Gids,SOC,AHr,Pack Volts,Pack Amps,Max CP mV,Min CP mV,Avg CP mV,CP mV Diff,"
    "Judgment Value,Pack T1 F,Pack T1 C,Pack T2 F,Pack T2 C,Pack T3 F,Pack T3 C,Pack T4 F,Pack T4 C,"
    + ",".join(f"CP{number}" for number in range(1, 97))
    + ",12v Bat Amps,VIN,Hx,12v Bat Volts,Odo(km),QC,L1/L2,TP-FL,TP-FR,TP-RR,TP-RL,Ambient,SOH,RegenWh,BLevel,"
    "epoch time,Motor Pwr(100w),Aux Pwr(100w),A/C Pwr(250w),A/C Comp(0.1MPa),Est Pwr A/C(50w),Est Pwr Htr(250w),"
    "Plug State,Charge Mode,OBC Out Pwr,Gear,HVolt1,HVolt2,GPS Status,Power SW,BMS,OBC,Debug"
).split(",")
NEW_COLUMNS = [
    *OLD_COLUMNS,
    "Motor Temp",
    "Inverter 2 Temp",
    "Inverter 4 Temp",
    " Speed1",
    " Speed2",
    "Wiper Status",
    "Torque Nm",
    "RPM",
    "Debug",
]


def leafspy_row(columns: list[str], values: dict[str, str]) -> list[str]:
    """One row; columns that nobody set hold 0."""
    made_up = {"VIN": "MADEUPVIN00000001", "Lat": "12 34.5678", "Long": "98 76.5432"}
    cells = {**dict.fromkeys(columns, "0"), **made_up, "Pack T3 C": "none", "Pack T3 F": "none", **values}
    return [cells[name] for name in columns]


def day_rows() -> Iterator[dict[str, str]]:
    """A made-up day: drive, rapid charge in a jump, drive, rapid charge in rows, drive, AC charge at the end."""
    time_s, percent, odometer, quick, motor = 8 * 3600, 90.0, 30_000, 11, 64
    plan = [
        ("drive", 6, 300),
        ("jump", 1, 1500),
        ("drive", 6, 300),
        ("rapid", 4, 300),
        ("drive", 5, 300),
        ("ac", 3, 300),
    ]
    for kind, count, spacing_s in plan:
        for index in range(count):
            mode, amps, gear = "0", 40.0, "4"
            if kind == "drive":
                percent, odometer = percent - 4.0, odometer + 6
            elif kind == "jump":
                percent, quick, amps, gear = percent + 25.0, quick + 1, 1.0, "1"
            elif kind == "rapid":
                percent, mode, amps, gear = percent + 4.0, "3", -90.0, "1"
                quick += index == 0
            else:
                percent, mode, amps, gear = percent + 1.0, "2", -16.0, "1"
            time_s += spacing_s
            yield {
                "Date/Time": f"09/12/2024 {time_s // 3600}:{time_s // 60 % 60:02d}:{time_s % 60:02d}",
                "epoch time": f"{START_UTC_S + time_s}.5",
                "Speed": "72" if gear == "4" else "0",
                "Gids": str(round(percent * 5)),
                "SOC": str(round(percent * 10_000)),
                "AHr": "1065000",
                "Pack Volts": f"{330 + percent * 0.7:.2f}",
                "Pack Amps": f"{amps:.3f}",
                "Max CP mV": "3905",
                "Min CP mV": "3881",
                "Avg CP mV": "3893",
                "Pack T1 C": "24.5",
                "Pack T2 C": "24.0",
                "Pack T4 C": "25.1",
                "Hx": "92.4",
                "Odo(km)": str(odometer),
                "QC": str(quick),
                "L1/L2": "402",
                "Ambient": f"{60.8 + (time_s // 300) % 3 * 0.9:.1f}",
                "SOH": "96.21",
                "Plug State": "2" if mode != "0" else "0",
                "Charge Mode": mode,
                "OBC Out Pwr": "5600" if mode == "2" else "0",
                "Gear": gear,
                "Motor Temp": str(motor),
                "Inverter 2 Temp": "40",
                "Inverter 4 Temp": "40",
            }


def leafspy_new() -> str:
    """160 columns and more, degrees Fahrenheit, `epoch time`."""
    lines = [",".join(NEW_COLUMNS)]
    lines += [",".join(leafspy_row(NEW_COLUMNS, values)) for values in day_rows()]
    return "\n".join(lines) + "\n"


def leafspy_old() -> str:
    """The oldest columns, semicolons, decimal commas, day first, no `epoch time`, CRLF; discharging to a house."""
    columns = [name for name in OLD_COLUMNS if name != "epoch time"]
    lines = [";".join(columns)]
    for index in range(8):
        values = {
            "Date/Time": f"21/03/2024 18:{index * 2:02d}:00",
            "SOC": str(700_000 - index * 4000),
            "AHr": "1065000",
            "Pack Volts": f"{381.2 - index * 0.1:.2f}".replace(".", ","),
            "Pack Amps": "13,125",
            "Ambient": "17,5" if index % 2 else "18,0",
            "Gids": str(330 - index * 2),
            "Max CP mV": "3975",
            "Min CP mV": "3966",
            "Avg CP mV": "3970",
            "Pack T1 C": "19,4",
            "Pack T2 C": "19,2",
            "Pack T4 C": "19,9",
            "Hx": "91,5",
            "QC": "7",
            "L1/L2": "88",
            "SOH": "97,02",
            "Odo(km)": "41000",
            "Plug State": "2",
            "Gear": "1",
        }
        lines.append(";".join(leafspy_row(columns, values)))
    return "\r\n".join(lines) + "\r\n"


def two_buses() -> Iterator[Frame]:
    """EV-CAN on channel 1, CAR-CAN on channel 2, and one overheard answer."""
    frames = [
        *ev_can(1.0, wake_ms=150, amps=-2.5, charging=False, channel=1),
        *car_can(1.0, channel=2, percent=61.3, soh=96, gids=288),
        *group_4(300, 1),
    ]
    yield from sorted(frames, key=lambda frame: frame.time_ms)


RECORDINGS: dict[str, Callable[[], str]] = {
    "evcan_wake.tsv": lambda: tsv(ev_can(1.2, wake_ms=200, amps=-1.5, charging=False)),
    "two_buses.crtd": lambda: crtd(two_buses()),
    "carcan_standing.txt": lambda: seconds_text(car_can(1.5)),
    "chademo_charge.csv": lambda: savvycan(chademo(6.0, discharge=False)),
    "chademo_discharge.log": lambda: candump_log(chademo(6.0, discharge=True)),
    "evcan_ac_charge.candump": lambda: candump(ev_can(1.2, wake_ms=0, amps=5.5, charging=True)),
    "leafspy_day.csv": leafspy_new,
    "leafspy_old_european.csv": leafspy_old,
}


def write_all(folder: Path) -> None:
    """Write every recording into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in RECORDINGS.items():
        (folder / name).write_bytes(make().encode())


if __name__ == "__main__":
    write_all(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
