# Two 82599s on one wire, both driven by DPDK's testpmd through vfio-pci.
set -- $cards
echo 200 > /proc/sys/vm/nr_hugepages
for card in $1 $2; do
    echo vfio-pci > "/sys/bus/pci/devices/$card/driver_override"
    echo "$card" > "/sys/bus/pci/devices/$card/driver/unbind"
    echo "$card" > /sys/bus/pci/drivers_probe
    equal "driver of $card" "$(basename "$(readlink "/sys/bus/pci/devices/$card/driver")")" vfio-pci
done
mkdir -p /dev/hugepages /var/run

testpmd() { # description, options
    echo "     dpdk-testpmd $2"
    dpdk-testpmd --in-memory -l 0,1 -a "$(echo $cards | cut -d' ' -f1)" -a "$(echo $cards | cut -d' ' -f2)" \
        -d /usr/lib/x86_64-linux-gnu/librte_mempool_ring.so.23 \
        -- --total-num-mbufs=8192 --auto-start $2 < /tmp/nothing > /tmp/testpmd 2>&1 &
    sleep 30 # What it says stays in its buffer: about half of that is for its start.
    kill -INT $!
    wait $!
    equal "$1: exit status" $? 0
    grep -E 'packets: |dropped: |orward .*tat' /tmp/testpmd | tr -s ' -' | sed 's/^/    /'
    grep -E 'rror|FAIL|annot' /tmp/testpmd
    sums=$(sed -n '/Accumulated forward/,$ s/.*RX-packets: *\([0-9]*\) *RX-dropped: *\([0-9]*\).*/\1 \2/p' /tmp/testpmd)
    above "$1: frames received by both ports" "${sums% *}" 10000
    equal "$1: of them dropped" "${sums#* }" 0
    each=$(grep -A 1 'Forward Stats for RX' /tmp/testpmd | grep -c 'RX-packets: [1-9]')
}
mkfifo /tmp/nothing
exec 3<> /tmp/nothing # testpmd ends with its input.

testpmd "frames that go round" "--forward-mode=io --tx-first"
testpmd "flows over four queues" "--forward-mode=flowgen --rxq=4 --txq=4 --rss-ip"
equal "queues of both ports that RSS has spread them over" "$each" 8
cat > /tmp/checksums << 'END'
port stop all
csum set ip hw 0
csum set ip hw 1
port start all
END
testpmd "IP checksums by the cards" "--forward-mode=csum --tx-first --enable-rx-cksum --cmdline-file=/tmp/checksums"
bad=$(sed -n 's/.*Bad-ipcsum: *\([0-9]*\).*/\1/p' /tmp/testpmd | sort -u)
equal "IP checksums that were wrong" "$bad" 0

finish
