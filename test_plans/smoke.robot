*** Settings ***
Documentation       Does this station work at all? Reads every device, then moves a little power both ways.
...
...                 Run it after each change to a station file:
...                 v2gbench run smoke --station FILE
Library             bench.keywords
Suite Setup         Open Station
Suite Teardown      Close Station


*** Test Cases ***
Every Device Answers
    [Documentation]    Everything is read once; no power moves.
    Every Device Should Answer
    Get All Readings
    Get Vehicle State Of Charge    >=    10 %
    Get Pack Temperature    <    45 °C
    Charger State Should Be    available

Power Goes Into The Vehicle
    [Documentation]    2 kW charge the vehicle, and all three witnesses see them.
    Plug In Vehicle
    Start Session    lasts=5 min
    Set Charger Power    2 kW    within=15 s
    Charger State Should Be    charging
    Get Meter Power    ac    >=    1.9 kW    retry_for=5 s
    Get Meter Power    dc    >    0 kW
    Get Vehicle Power    >    0 kW    retry_for=20 s

Power Comes Out Of The Vehicle
    [Documentation]    2 kW leave the vehicle, and nobody clamps them.
    Set Charger Power    -2 kW    within=15 s
    Set Point Should Be Clamped By    nobody
    Charger State Should Be    discharging
    Get Meter Power    ac    <=    -1.9 kW    retry_for=5 s
    Get Vehicle Power    <    0 kW    retry_for=20 s

The Session Ends In Order
    [Documentation]    Power comes down to nothing, the cable comes out, and no limit was passed on the way.
    Stop Session
    Get Charger Power    <    200 W    retry_for=15 s
    Unplug Vehicle
    Charger State Should Be    available    retry_for=5 s
    Limits Should Hold
