# Two 82599s on one wire: ours on the first, below nginx and behind an IOMMU; Linux's ixgbe on the second.
set -- $cards
ours=$1
interface $2 B p1 10.0.0.1

interrupts() { awk '/vfio-msix/ { for (i = 2; i < 6; i++) sum += $i } END { print sum + 0 }' /proc/interrupts; }
serve() { # starts nginx over our driver
    nginx_on $ours
    left=30
    until [ "$(b curl -s -m 2 http://10.0.0.2/hello)" = hello ]; do
        left=$((left - 1))
        [ $left = 0 ] && break
        sleep 1
    done
    above "$1: nginx answers, with attempts left" $left 0
}
connections() { # how many
    start=$(seconds)
    b ab -q -n $1 -c 16 http://10.0.0.2/hello > /tmp/ab
    seen=$(sed -n 's/^Complete requests: *//p; s/^Failed requests: *//p' /tmp/ab | xargs)
    equal "short connections, and how many of them have failed" "$seen" "$1 0"
    since $start
}

hand_over $ours
equal "driver, after the commands that mtcp-run prints" "$(driver $ours)" vfio-pci
$run devices

dd if=/dev/urandom of=/run/www/big bs=1M count=1024 2> /dev/null
expected=$(sha256sum < /run/www/big)
serve "vfio-pci"
answered=$(b ping -c 100 -i 0.05 -W 5 10.0.0.2 | sed -n 's/.*transmitted, \([0-9]*\) packets received.*/\1/p')
equal "pings answered" "$answered" 100
start=$(seconds)
equal "1 GB that Linux has fetched" "$(b curl -s http://10.0.0.2/big | sha256sum)" "$expected"
since $start
connections 10000
above "interrupts by MSI-X" "$(interrupts)" 100
stop
serve "vfio-pci again"
kill -9 $stack
wait $stack 2> /dev/null
killall -9 nginx # It still holds the port on the kernel's side.
serve "vfio-pci after kill -9"
stop

hand_over $ours
equal "driver, once the card has been given back" "$(driver $ours)" ixgbe
interface "$ours" A p0 10.0.0.2
left=30
until a ping -c 1 -W 1 10.0.0.1 > /dev/null; do
    left=$((left - 1))
    [ $left = 0 ] && break
    sleep 1
done
above "Linux's ixgbe has the link again, with attempts left" $left 0

# Without VFIO, and so without interrupts and without an IOMMU between: by what sysfs shows of the card.
echo "$ours" > "/sys/bus/pci/devices/$ours/driver/unbind"
serve "no driver at all"
connections 1000
stop

finish
