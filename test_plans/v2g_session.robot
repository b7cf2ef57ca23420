*** Settings ***
Documentation       One hour of vehicle-to-grid: a van charges at 3 kW, and the grid operator orders twice.
...
...                 From minute 5 to 25 the load is decreased by 10 kW, so that 7 kW leave the battery; from minute 35
...                 to 50 it is increased by 5 kW to 8 kW. Afterwards the session is certified: what the charger's
...                 meter, the van and the power analyzer measured is compared, signed, put on the ledger and paid for.
...
...                 v2gbench run v2g_session --station FILE
...                 The tests are the steps of one session and build on one another.
Library             bench.keywords
Suite Setup         Open Station
Suite Teardown      Close Station
Test Tags           session


*** Test Cases ***
The Van Is Plugged In
    [Documentation]    All devices answer, and the battery has room in both directions.
    Every Device Should Answer
    Get Vehicle State Of Charge    >=    40 %
    Get Vehicle State Of Charge    <=    80 %
    Plug In Vehicle
    Charger State Should Be    plugged    retry_for=10 s

The Grid Operator Announces Its Orders
    [Documentation]    Orders stand on the ledger before they begin.
    Start Session    lasts=1 h    baseline=3 kW
    Announce Grid Order    dso-1    load decrease    10 kW    starts_in=5 min    lasts=20 min
    Announce Grid Order    dso-2    load increase    5 kW    starts_in=35 min    lasts=15 min

The Van Charges Before The First Order
    Follow Grid Orders    4 min
    Charger State Should Be    charging
    Get Meter Power    ac    >=    2.9 kW
    Get Meter Power    ac    <=    3.1 kW

Seven Kilowatts Leave The Battery
    [Documentation]    The load decrease takes the flow to -7 kW at the grid; the vehicle gives a little more.
    Follow Grid Orders    11 min
    Charger State Should Be    discharging
    Get Charger Power    <=    -6.9 kW
    Get Meter Power    ac    <=    -6.9 kW
    Get Meter Power    dc    <    -7 kW
    Get Vehicle Power    <    -7 kW    retry_for=20 s

Eight Kilowatts Go Into The Battery
    Follow Grid Orders    25 min
    Charger State Should Be    charging
    Get Meter Power    ac    >=    7.8 kW
    Set Point Should Be Clamped By    nobody

The Session Runs To Its End
    Follow Grid Orders
    Stop Session
    Unplug Vehicle
    Get Meter Energy    ac    export    >=    2.2 kWh
    Get Meter Energy    ac    import    >=    2.9 kWh

The Battery Was Treated Well
    [Documentation]    No limit of the station was passed in any second of the session.
    Get Pack Temperature    <    40 °C
    Get Vehicle State Of Charge    >=    40 %
    Limits Should Hold

The Session Is Certified
    [Documentation]    The witnesses agree, the certificate verifies offline, and money has moved.
    ${summary} =    Certify Session
    Witnesses Should Agree
    Certificate Should Verify
    Settlement Should Be Paid
    Log Many    &{summary}[energy_import_wh]
    Log Many    &{summary}[energy_export_wh]
