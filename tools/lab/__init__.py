"""One harness for tests and tools: programs as real processes, and what meets them on the network.

    process     a child whose output is collected; waiting for conditions; what a machine must have
    machine     for tools that measure: a core for the relay, a C compiler, CPU time and memory
    relay       a relay process, its log read as events
    viewer      a control connection, and the UDP port where its player would listen
    sockets     UDP sockets, free ports
    numbered    datagrams that carry their number, and counts of those that arrived
    stamps      when a datagram arrived, by the kernel's clock
    traffic     streams that wait for their receiver, and floods that do not
    reloads     what goes on while a relay reloads: a stream, viewers who count it, people who type
    altered     a relay with a part replaced
    attacks     attacks that no viewer may notice
    icmp        forged ICMP errors
    client      the client on pipes and on a terminal, and a relay played by the test
    inprocess   a loop that runs until something is true, for tests of single parts
    fanout_bench, framing   a fan-out with players; input cut up in every way
    browser     real browsers
    media, players   real video: a clip, players that record it, a check of the recordings
    netns*      hosts in network namespaces and what runs on them

Nothing here knows pytest. A wait that fails raises `process.LabError`.
"""
