*** Settings ***
Documentation       Money that follows the record, on real Lightning nodes: whatever dies, it moves once or not at all.
...
...                 Each test is a session of its own, with a hub and a node for each party of the tariff. Nodes are killed
...                 and records forged, and the money is counted by the nodes' own books, to the millisatoshi.
...
...                 v2gbench run lightning_settlement
...                 Another station is named with --station FILE; it needs `settlement: {kind: lightning, ...}`.
Library             bench.keywords
Test Teardown       Close Station
Test Tags           lightning


*** Variables ***
${STATION}          stations/emulated-lightning.yaml    # where it runs without --station


*** Test Cases ***
The Golden Session Is Paid To The Millisatoshi
    [Documentation]    A quarter of an hour at 3.6 kW. The amount follows from record, tariff and rate; at the emulated
    ...    station 899 Wh cost 224 750 msat, and the van pays the hub 1 000 msat for the way.
    A Session    baseline=3592 W
    Certify Session
    Certificate Should Verify
    ${due} =    Payments Should Follow From Record
    Payment Of Session Should Be Settled Once
    Node Balance Should Have Changed By    seller    ${due}[import_energy] msat
    Money Should Be Conserved

A Forged Record Is Never Paid
    [Documentation]    The meter's figure is raised a hundredfold and the signature kept: money is held, and goes back.
    A Session With Both Directions
    Record Session
    ${before} =    Get Balances
    ${forged} =    Forge Usage Record    import    60 kWh
    Run Keyword And Expect Error    *does not verify*    Settle Session    ${forged}
    Payments Should Be    held=0    under_way=0
    Balances Should Be    ${before}
    Certify Session
    Payments Should Follow From Record
    Money Should Be Conserved

The Hub Is Down At Settlement And Comes Back
    [Documentation]    Without the hub nobody can pay, and the certificate waits; with it again, each is paid once.
    A Session With Both Directions
    Record Session
    ${before} =    Get Balances
    Kill Node    hub
    Run Keyword And Expect Error    *nothing was paid*    Settle Session
    Start Node    hub
    Balances Should Be    ${before}
    Settle Session
    Settle Session
    Certify Session
    Payment Of Session Should Be Settled Once
    Payments Should Follow From Record
    Money Should Be Conserved

The Payee Dies While It Holds The Money
    [Documentation]    The seller's node is killed between the hold and the preimage, and finds its money again.
    A Session With Both Directions
    Record Session
    Hold Payment
    Kill Node    seller
    Start Node    seller
    Settle Session
    Certify Session
    Payment Of Session Should Be Settled Once
    Payments Should Follow From Record
    Money Should Be Conserved


*** Keywords ***
A Session With Both Directions
    [Documentation]    Five minutes of a quarter of an hour, 5 kW leave the battery.
    A Session    baseline=3.6 kW    ordered=8.6 kW

A Session
    [Documentation]    From plug to plug, ready to be recorded and certified.
    [Arguments]    ${baseline}    ${ordered}=${EMPTY}
    Open Station
    Get Balances
    Plug In Vehicle
    Start Session    lasts=15 min    baseline=${baseline}
    IF    $ordered
        Announce Grid Order    dso-1    load decrease    ${ordered}    starts_in=5 min    lasts=5 min
    END
    Follow Grid Orders
    Stop Session
    Unplug Vehicle
