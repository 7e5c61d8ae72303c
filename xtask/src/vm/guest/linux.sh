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
transfer() { # description: 8 MB each way
    b nc -w 20 -l -p 5000 > /run/there < /run/data &
    sleep 0.5
    a nc -w 20 10.0.0.2 5000 < /run/data > /run/back
    wait $!
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

# A reset, which a change of features may be, clears what was not read yet: it is counted from here on.
sleep 3
for name in tx_pkts_nic tx_bytes_nic rx_pkts_nic rx_bytes_nic; do
    eval "p0_$name=$(counter p0 $name) p1_$name=$(counter p1 $name)"
done
since() { # interface, counter
    eval "echo \$(($(counter $1 $2) - ${1}_$2))"
}

b iperf3 -s -D > /dev/null
sleep 1
queues() { # those of p1 that have received more than ten frames since the last time
    used=0
    for queue in 0 1 2 3; do
        now=$(counter p1 rx_queue_${queue}_packets)
        eval "before=\${before_$queue:-0}; before_$queue=$now"
        [ $((now - before)) -gt 10 ] && used=$((used + 1))
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

sleep 3
for pair in "p0 p1" "p1 p0"; do
    set -- $pair
    equal "frames that $1 has sent, and $2 received" "$(since $1 tx_pkts_nic)" "$(since $2 rx_pkts_nic)"
    equal "their bytes" "$(since $1 tx_bytes_nic)" "$(since $2 rx_bytes_nic)"
done
for name in rx_missed_errors rx_crc_errors rx_no_dma_resources tx_timeout_count tx_restart_queue; do
    echo "     $name: $(counter p0 $name) $(counter p1 $name)"
done
interrupts=$(awk '/TxRx/ { for (i = 2; i < 6; i++) sum += $i } END { print sum }' /proc/interrupts)
above "interrupts by MSI-X" "$interrupts" 1000

finish
