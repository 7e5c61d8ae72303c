# Two 82599s on one wire, each in a network namespace of its own, both driven by Linux's ixgbe.
both() { a "$@" p0; b "$@" p1; }
features() { # name and on or off, and so on: of both cards
    a ethtool -K p0 "$@" > /dev/null
    b ethtool -K p1 "$@" > /dev/null
    linked
}
counter() { # interface, name
    if [ "$1" = p0 ]; then a ethtool -S p0; else b ethtool -S p1; fi | sed -n "s/^ *$2: //p"
}
linked() {
    left=60
    until has_link a p0 && has_link b p1; do
        left=$((left - 1))
        [ $left = 0 ] && { say link 1 "not within 30 s"; return; }
        sleep 0.5
    done
}
# Each connection carries data one way: nc does not read while it writes, and two of them would wait for
# each other once the buffers between them are full.
mkfifo /tmp/nothing
exec 3<> /tmp/nothing # nc stops at the end of its input: there is none, and no end.
transfer() { # description: 8 MB each way, at the same time
    b nc -w 20 -l -p 5000 < /tmp/nothing > /run/there &
    a nc -w 20 -l -p 5001 < /tmp/nothing > /run/back &
    sleep 0.5
    a nc -w 20 10.0.0.2 5000 < /run/data &
    b nc -w 20 10.0.0.1 5001 < /run/data
    wait
    sums=$(sha256sum /run/data /run/there /run/back | cut -d' ' -f1 | sort -u)
    equal "$1, 8 MB each way" "$(echo "$sums" | grep -c .)" 1
}

set -- $cards
interface $1 A p0 10.0.0.1
interface $2 B p1 10.0.0.2

linked
equal "speed of the link" "$(a ethtool p0 | sed -n 's/.*Speed: //p')" "10000Mb/s"
answered=$(a ping -c 200 -i 0.05 -W 5 10.0.0.2 | sed -n 's/.*transmitted, \([0-9]*\) packets received.*/\1/p')
equal "pings answered" "$answered" 200

dd if=/dev/urandom of=/run/data bs=1M count=8 2> /dev/null
transfer "TCP as ixgbe sets itself up"
features tso off gso off
transfer "TCP without TSO"
features tso on gso on lro on
transfer "TCP with TSO and LRO"
merged=$(($(counter p0 hw_rsc_aggregated) + $(counter p1 hw_rsc_aggregated)))
above "segments that the cards have merged" $merged 0
features lro off
transfer "TCP with TSO, without LRO"
features tx off rx off
transfer "TCP without checksums by the cards"
features tx on rx on tso on
transfer "TCP with all of them again"
equal "checksums that the cards found wrong" "$(counter p0 rx_csum_offload_errors) $(counter p1 rx_csum_offload_errors)" "0 0"

# The flow director: filters that Linux adds by itself (ATR), instead of which it takes those that it is
# told (ntuple).
above "frames that found a filter which Linux has added" "$(counter p1 fdir_match)" 0
b ethtool -K p1 ntuple on
linked
# A reset, which a change of features may be, clears what was not read yet: it is counted from here on.
sleep 3
snapshot() {
    for name in tx_pkts_nic tx_bytes_nic rx_pkts_nic rx_bytes_nic; do
        eval "p0_$name=$(counter p0 $name) p1_$name=$(counter p1 $name)"
    done
}
snapshot
since() { # interface, counter
    eval "echo \$(($(counter $1 $2) - ${1}_$2))"
}

b iperf3 -s -D > /dev/null
sleep 1
queues() { # those of p1 that have received more than ten frames since the last time
    used=0 most=none highest=0
    for number in 0 1 2 3; do
        now=$(counter p1 rx_queue_${number}_packets)
        eval "seen=\$((now - \${before_$number:-0})) before_$number=$now"
        [ $seen -gt 10 ] && used=$((used + 1))
        [ $seen -gt $highest ] && most=$number highest=$seen
    done
}
queues
a iperf3 -c 10.0.0.2 -P 24 -n 400K > /tmp/iperf || cat /tmp/iperf
queues
equal "queues that RSS spreads 24 connections over" $used 4
b ethtool -X p1 equal 1
queues
a iperf3 -c 10.0.0.2 -P 24 -n 400K > /tmp/iperf || cat /tmp/iperf
queues
equal "queues, with a table that names one" $used 1
b ethtool -X p1 default

# Those that it is told.
for queue in 1 2; do
    b ethtool -N p1 flow-type tcp4 dst-port 5201 action $queue loc 1 || failed=1
    queues
    a iperf3 -c 10.0.0.2 -P 24 -n 400K > /tmp/iperf || cat /tmp/iperf
    queues
    equal "queues, with a filter for the port" "$used: $most" "1: $queue"
done
b ethtool -N p1 delete 1
b ethtool -N p1 flow-type tcp4 src-ip 10.0.0.1 dst-ip 10.0.0.2 src-port 6000 dst-port 5201 action 3 loc 2 || failed=1
queues
a iperf3 -c 10.0.0.2 --cport 6000 -n 800K > /tmp/iperf || cat /tmp/iperf
queues
equal "queue of the connection that a filter names" "$most" 3
b ethtool -N p1 flow-type tcp4 src-ip 10.0.0.1 dst-ip 10.0.0.2 src-port 6001 dst-port 5201 action -1 loc 3 || failed=1
a curl -s -m 3 --local-port 6001 http://10.0.0.2:5201/
equal "exit status of a connection that a filter drops (it timed out)" $? 28
above "frames that found a filter" "$(counter p1 fdir_match)" 100

sleep 3
for pair in "p0 p1" "p1 p0"; do
    set -- $pair
    equal "frames that $1 has sent, and $2 received" "$(since $1 tx_pkts_nic)" "$(since $2 rx_pkts_nic)"
    equal "their bytes" "$(since $1 tx_bytes_nic)" "$(since $2 rx_bytes_nic)"
done
for name in rx_missed_errors rx_crc_errors rx_no_dma_resources tx_timeout_count tx_restart_queue; do
    echo "     $name: $(counter p0 $name) $(counter p1 $name)"
done
b ethtool -K p1 ntuple off
linked

# Jumbo frames.
both $ip link set mtu 9000 dev
linked
transfer "TCP with an MTU of 9000"
features lro on
transfer "TCP with an MTU of 9000 and LRO"
answered=$(a ping -c 20 -i 0.05 -s 8972 -W 5 10.0.0.2 | sed -n 's/.*transmitted, \([0-9]*\) packets received.*/\1/p')
equal "pings of 9000 bytes answered" "$answered" 20

# All that Linux counts from a reset on, which the cards' own counts are compared with at the end.
both $ip link set down dev
snapshot
both $ip link set up dev
linked
transfer "TCP, all of which is counted"
sleep 3
for side in "first p0" "second p1"; do
    set -- $side
    echo "count: $1 card: $(since $2 tx_pkts_nic) frames out, $(since $2 tx_bytes_nic) bytes, $(since $2 rx_pkts_nic) in, $(since $2 rx_bytes_nic)"
done

interrupts=$(awk '/TxRx/ { for (i = 2; i < 6; i++) sum += $i } END { print sum }' /proc/interrupts)
above "interrupts by MSI-X" "$interrupts" 1000

finish
