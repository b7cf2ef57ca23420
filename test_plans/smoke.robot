*** Settings ***
Documentation       Does this station work at all? Opens it, reads every device, and moves a little power both ways.
...
...                 Each test opens the station anew and leaves it closed in its safe state. Run it after each change
...                 to a station file:    v2gbench run smoke --station FILE
Library             bench.keywords


*** Test Cases ***
Every Device Answers
    [Documentation]    All devices of the station are read once; no power moves.
    Open Station
    Every Device Should Answer
    Get All Readings
    Get Vehicle State Of Charge    >=    10 %
    Get Pack Temperature    <    45 °C
    Charger State Should Be    available
    Limits Should Hold

Power Goes Into The Vehicle
    [Documentation]    2 kW charge the vehicle: the charger, the analyzer and the battery all show it.
    Open Station
    Plug In Vehicle
    Start Session    lasts=1 min
    Set Charger Power    2 kW    within=15 s
    Get Meter Power    ac    >=    1.9 kW    retry_for=5 s
    Get Meter Power    dc    >    0 kW
    Get Vehicle Power    >    0 kW    retry_for=15 s
    Charger State Should Be    charging
    Stop Session
    Unplug Vehicle
    [Teardown]    Close Station

Power Comes Out Of The Vehicle
    [Documentation]    2 kW leave the vehicle, and nobody clamps them.
    Open Station
    Plug In Vehicle
    Start Session    lasts=1 min
    Set Charger Power    -2 kW    within=15 s
    Set Point Should Be Clamped By    nobody
    Get Meter Power    ac    <=    -1.9 kW    retry_for=5 s
    Get Vehicle Power    <    0 kW    retry_for=15 s
    Charger State Should Be    discharging
    Stop Session
    Unplug Vehicle
    [Teardown]    Close Station
