"""One harness for tests and tools: programs as real processes, and what meets them on the network.

    process     a child whose output is collected; waiting for conditions; what a machine must have
    relay       a relay process, its log read as events
    viewer      a control connection, and the UDP port where its player would listen
    sockets     UDP sockets, free ports
    numbered    datagrams that carry their number, and the account of those that arrived
    traffic     streams that wait for their receiver, and floods that do not
    restarts    what goes on while a relay restarts: a stream, an audience, people who type
    client      the client on pipes and on a terminal, and a relay played by the test
    inprocess   a loop that runs until something is true, for tests of single parts
    media, players   real video: a clip, players that record it, a judge of the recordings
    netns*      hosts in network namespaces and what runs on them

Nothing here knows pytest. A wait that fails raises `process.LabError`.
"""
